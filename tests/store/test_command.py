"""`python -m qvd.store`: what it shows, what it deletes, what it refuses."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from qvd.store.__main__ import main
from qvd.store.artifacts import Store
from qvd.store.inventory import LEDGER
from qvd.store.records import FORMAT

ROOT = Path(__file__).parents[2]


def made(seed):
    return {"x": torch.full((1000,), seed)}, {"seed": seed}


@pytest.fixture
def world(tmp_path):
    """A store with what two runs need, one artifact of it in common, and one that neither needs; all two days old."""
    for run, seeds in (("first", (0, 1)), ("second", (1, 2))):
        (tmp_path / "runs" / run).mkdir(parents=True)
        store = Store(tmp_path / "store", ledger=tmp_path / "runs" / run / LEDGER)
        for seed in seeds:
            store.fetch("samples", {"seed": seed}, lambda seed=seed: made(seed))
    Store(tmp_path / "store").fetch("ranges", {"seed": 3}, lambda: made(3))
    age(tmp_path / "store")
    return tmp_path


def age(folder, days=2):
    for path in folder.rglob("*"):
        os.utime(path, (path.stat().st_mtime - days * 24 * 3600,) * 2)


def append(path, text):
    path.write_text(path.read_text() + text)


def names(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")}


def run(world, *words):
    return main(["--store", str(world / "store"), *map(str, words)])


def test_ls_counts_by_stage(world, capsys):
    assert run(world, "ls") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:4]] == [["ranges", "1"], ["samples", "3"], ["all", "4"]]
    assert lines[2][-4:] == ["2", "d", "2", "d"]


def test_du_tells_what_a_run_alone_needs(world, capsys):
    append(world / "runs" / "second" / LEDGER, f"samples {'0' * 64}\n")
    assert run(world, "du", world / "runs") == 0
    out = capsys.readouterr().out.splitlines()
    first, second = (line.split() for line in out[1:3])
    assert (first[0][-5:], first[1], first[-1]) == ("first", "2", "0")
    assert (second[0][-6:], second[1], second[-1]) == ("second", "2", "1")
    assert out[-1].startswith("needed by none of them: 8.") and out[-1].endswith("KiB")


def test_verify_names_what_is_damaged_and_changes_nothing(world, capsys):
    assert run(world, "verify") == 0
    victim = next((world / "store" / "samples").glob("*.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1])
    before = names(world)
    assert run(world, "verify") == 1
    assert victim.stem in capsys.readouterr().out and names(world) == before


def test_gc_changes_nothing_unless_told_to(world, capsys):
    before = names(world)
    assert run(world, "gc", world / "runs" / "first") == 0
    out = capsys.readouterr().out
    assert names(world) == before and "could be deleted" in out
    assert out.splitlines()[1].split()[:6] == ["needed", "by", "no", "run", "named", "2"]


def test_gc_keeps_what_named_runs_need(world):
    assert run(world, "gc", world / "runs" / "first", "--delete") == 0
    kept = Store(world / "store", read_only=True)
    for seed in (0, 1):
        assert kept.fetch("samples", {"seed": seed}, pytest.fail).metadata == {"seed": seed}
    assert len(names(world / "store")) == 4
    assert not list((world / "store" / "ranges").iterdir())


def test_gc_of_no_runs_deletes_only_what_is_of_no_use(world):
    store = world / "store" / "samples"
    keys = sorted(path.stem for path in store.glob("*.json"))
    (store / f"{keys[0]}.safetensors").unlink()
    (store / f"{keys[1]}.json.damaged").touch()
    (store / f"{keys[1]}.json.123.partial").touch()
    (store / f"{keys[1]}.work").mkdir()
    (store / f"{'a' * 64}.lock").touch()
    (store / "mine.txt").touch()
    (store / "download.partial").touch()
    age(store)
    assert run(world, "gc", "--delete") == 0
    rest = {path.name for path in store.iterdir()}
    assert rest == {
        *("mine.txt", "download.partial"),
        *(f"{key}.{kind}" for key in keys[1:] for kind in ("json", "safetensors")),
        f"{keys[2]}.lock",  # the others', which nobody holds, went with what they guarded
    }


def test_gc_leaves_alone_what_is_young_or_being_made(world, capsys):
    os.utime(next((world / "store" / "ranges").glob("*.json")))
    only = world / "runs" / "first"
    victim = next(p for p in (world / "store" / "samples").glob("*.lock") if p.stem not in (only / LEDGER).read_text())
    with FileLock(victim):
        assert run(world, "gc", only, "--delete") == 0
        assert "1 in use, left alone" in capsys.readouterr().out and victim.with_suffix(".json").exists()
    assert run(world, "gc", only, "--delete") == 0
    assert not victim.with_suffix(".json").exists()
    assert list((world / "store" / "ranges").glob("*.json"))
    assert run(world, "gc", only, "--delete", "--older-than", "0") == 0
    assert not list((world / "store" / "ranges").glob("*.json"))


def test_gc_finds_artifacts_of_an_earlier_version(world, capsys):
    sidecar = next((world / "store" / "ranges").glob("*.json"))
    sidecar.write_text('{"stage": "ranges", "inputs": {}, "metadata": {}, "sha256": "", "seconds": 1.0}')
    with pytest.warns(UserWarning, match=f"of an earlier version cannot be verified .*format 1, this is {FORMAT}"):
        assert Store(world / "store").fetch("ranges", {"seed": 3}, lambda: made(4)).metadata == {"seed": 4}
    assert not list(sidecar.parent.glob("*.damaged"))
    sidecar.write_text('{"stage": "ranges", "inputs": {}, "metadata": {}, "sha256": "", "seconds": 1.0}')
    run(world, "gc")
    assert "of an earlier version" in capsys.readouterr().out


def test_export_and_import_carry_what_a_run_needs(world, tmp_path, capsys):
    assert run(world, "export", tmp_path / "a.tar", world / "runs" / "second") == 0
    other = tmp_path / "other"
    other.mkdir()
    for said in ("2 artifacts taken in, 0 were there", "0 artifacts taken in, 2 were there"):
        assert run(other, "import", tmp_path / "a.tar") == 0
        assert said in capsys.readouterr().out
    for seed in (1, 2):
        fetched = Store(other / "store", read_only=True).fetch("samples", {"seed": seed}, pytest.fail)
        assert torch.equal(fetched.tensors["x"], made(seed)[0]["x"])


def test_import_takes_nothing_that_is_not_what_was_written(world, tmp_path, capsys):
    run(world, "export", tmp_path / "a.tar", world / "runs" / "second")
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[content.rindex(b"\x02\0\0\0\0\0\0\0")] = 3  # in the tensors of seed 2
    (tmp_path / "flipped.tar").write_bytes(content)
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 3])
    (tmp_path / "none.tar").write_text("no tar")
    with tarfile.open(tmp_path / "outside.tar", "w") as tar:
        tar.add(tmp_path / "none.tar", f"../{'0' * 64}.json")
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        link = tarfile.TarInfo(f"samples/{'0' * 64}.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    for name in ("flipped", "cut", "none", "outside", "link"):
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        capsys.readouterr()
        assert run(tmp_path / "new", "import", tmp_path / f"{name}.tar") == 2, name
        assert len(capsys.readouterr().err.splitlines()) == 1
        kept = list((tmp_path / "new").rglob("*.json"))
        assert all(Store(tmp_path / "new" / "store").fetch("samples", {"seed": 1}, pytest.fail) for _ in kept)
    assert not list(tmp_path.glob("0*.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--store", "nowhere", "ls"], "store=nowhere: no such folder"),
        (["--store", "{store}", "gc", "{store}"], "no artifacts.txt in or below it"),
        (["--store", "{store}", "du", "nowhere"], "nowhere: no artifacts.txt"),
        (["--store", "{store}", "import", "nowhere.tar"], "No such file or directory: 'nowhere.tar'"),
    ],
)
def test_bad_input_is_one_line(world, capsys, words, said):
    assert main([word.format(store=world / "store") for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_a_ledger_that_names_no_artifact_is_refused(world, capsys):
    append(world / "runs" / "first" / LEDGER, "samples ../../x\n")
    assert run(world, "gc", world / "runs", "--delete") == 2
    assert "line 3, 'samples ../../x', names no artifact" in capsys.readouterr().err
    assert len(names(world / "store")) == 8


@pytest.mark.parametrize("days", ["-1", "nan", "x"])
def test_impossible_ages_are_refused(world, days):
    with pytest.raises(SystemExit):
        run(world, "gc", f"--older-than={days}")


def test_the_command_starts_without_torch(tmp_path):
    code = "import sys, qvd.store.__main__\nassert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
