"""Runs that start in the same second have folders of their own."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.folders import claim

ROOT = Path(__file__).parents[2]


def test_a_name_is_given_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim(tmp_path / "runs" / "12-00-00-single"), range(32)))
    assert len(set(folders)) == 32 and all(folder.is_dir() for folder in folders)
    names = {folder.name for folder in folders}
    assert names == {"12-00-00-single", *(f"12-00-00-single-{number}" for number in range(2, 33))}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([], "run"),
        pytest.param(["--multirun", "bits=w8a8,w6a6"], "sweep", marks=pytest.mark.full),
    ],
)
def test_four_runs_of_one_second_share_no_folder(tmp_path, words, kind):
    """The clock stands still: the name is the same for all."""
    (tmp_path / "clock.py").write_text(
        "import runpy, sys\nfrom datetime import datetime\nimport hydra.core.utils as utils\n"
        "class Still(datetime):\n    @classmethod\n    def now(cls, tz=None): return cls(2026, 1, 2, 3, 4, 5)\n"
        "utils.datetime = Still\n"
        f"sys.argv = [{str(ROOT / 'run.py')!r}, *sys.argv[1:]]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, tmp_path / "clock.py", *words, "seed=-1", f"store={tmp_path}/store"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    runs = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for run in runs:
        run.communicate(timeout=120)
        assert run.returncode == 2
    day = tmp_path / "outputs" / f"{kind}s" / "2026-01-02"
    first = "03-04-05-single-tiny_modelscope-qvd-w8a8" if kind == "run" else "03-04-05"
    assert sorted(path.name for path in day.iterdir()) == [first, *(f"{first}-{number}" for number in (2, 3, 4))]
    if kind == "sweep":
        assert all(len(list(folder.glob("*-tiny_modelscope-*/failure.json"))) == 2 for folder in day.iterdir())
    else:
        assert all((folder / ".hydra" / "config.yaml").exists() for folder in day.iterdir())
