"""Unfinished files: whose they are, and when nobody's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qvd.store.owners import FOREIGN_SECONDS, Owner, abandoned, partial_of, sweep

FOREIGN = "elsewhere-00000000-1-1"


@pytest.fixture
def of_the_dead(tmp_path):
    """A file that a process which has ended was writing."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom qvd.store.owners import partial_of\n"
        "partial_of(Path(sys.argv[1])).touch()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], check=True)
    (path,) = tmp_path.iterdir()
    return path


def test_names_tell_their_owner_and_are_never_the_same(tmp_path):
    first, second = partial_of(tmp_path / "a.json"), partial_of(tmp_path / "a.json")
    assert first != second and first.parent == tmp_path
    assert Owner.of(first) == Owner.of(second) == Owner.current()
    assert Owner.current().is_near and not Owner.current().is_gone


def test_what_the_dead_left_goes_and_what_the_living_write_stays(tmp_path, of_the_dead):
    mine = partial_of(tmp_path / "a.json")
    mine.touch()
    of_the_dead.write_bytes(b"x" * 100)
    assert list(abandoned(tmp_path)) == [of_the_dead]
    assert sweep(tmp_path) == 100
    assert list(tmp_path.iterdir()) == [mine]


def test_a_number_given_again_is_another_process(tmp_path):
    me = Owner.current()
    earlier = Owner(me.host, me.machine, me.pid, me.started - 1)
    (tmp_path / f"a.json.{earlier}.00000000.partial").touch()
    assert sweep(tmp_path) == 0 and not list(tmp_path.iterdir())


def test_a_zombie_is_dead():
    child = os.fork()
    if child == 0:
        time.sleep(0.3)
        os._exit(0)
    me = Owner.current()
    started = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
    owner = Owner(me.host, me.machine, child, started)
    assert not owner.is_gone
    deadline = time.monotonic() + 10
    while not owner.is_gone and time.monotonic() < deadline:
        time.sleep(0.05)
    assert owner.is_gone
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("name", "seconds", "goes"),
    [
        (f"a.json.{FOREIGN}.00000000.partial", FOREIGN_SECONDS - 60, False),
        (f"a.json.{FOREIGN}.00000000.partial", FOREIGN_SECONDS + 60, True),
        (f"a.json.{FOREIGN}.00000000.partial", -10 * FOREIGN_SECONDS, False),  # from the future
        ("a.safetensors.123.partial", FOREIGN_SECONDS - 60, False),
        ("a.safetensors.123.partial", FOREIGN_SECONDS + 60, True),
        ("download.partial", 100 * FOREIGN_SECONDS, False),  # another program's
    ],
)
def test_of_other_machines_only_age_tells(tmp_path, name, seconds, goes):
    path = tmp_path / name
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    sweep(tmp_path)
    assert path.exists() != goes


def test_a_wrong_clock_of_ours_makes_nobody_dead(tmp_path, monkeypatch):
    path = tmp_path / f"a.json.{FOREIGN}.00000000.partial"
    path.touch()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    sweep(tmp_path)
    assert path.exists()
