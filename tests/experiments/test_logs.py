"""What a run leaves in run.log, and what it says on the terminal meanwhile. Lines of workers: tests/integration."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import runpy, sys, warnings
import experiments.experiment
def run_experiment(*args, **options):
    warnings.warn("look here", UserWarning)
    {ending}
experiments.experiment.run_experiment = run_experiment
sys.argv[0] = "run.py"
runpy.run_path("run.py", run_name="__main__")
"""
BUG = "raise RuntimeError('broken\\nin two lines')"


def run(folder, ending, *words):
    """The command whose stages are replaced by an ending."""
    command = [sys.executable, "-c", RUN.format(ending=ending), f"store={folder}/store", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("ending", "code", "line"),
    [
        (BUG, 1, "error: RuntimeError: broken (a bug; {log} has its traceback)"),
        pytest.param(
            "raise RuntimeError('Traceback (most\\n …\\nKeyError: 7')",
            1,
            "error: KeyError: 7 (a bug; {log} has",
            marks=pytest.mark.full,
        ),
        pytest.param(
            "raise ValueError('n_videos=3: too\\nfew')", 2, "error: n_videos=3: too few", marks=pytest.mark.full
        ),
        pytest.param("raise ChildProcessError('workers: killed')", 1, "error: workers: killed", marks=pytest.mark.full),
        pytest.param("raise KeyboardInterrupt", 130, "interrupted: the same command goes on", marks=pytest.mark.full),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, "terminated: the same command goes on"),
    ],
)
def test_an_end_is_one_line_an_exit_code_and_in_the_log(tmp_path, ending, code, line):
    log = tmp_path / "run" / "run.log"
    done = run(tmp_path, ending, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == code, done.stderr
    warned, ended = done.stderr.splitlines()
    assert warned == "warning: look here" and ended.startswith(line.format(log=log)), done.stderr
    lines = log.read_text().splitlines()
    assert lines[0].endswith(f"python run.py store={tmp_path}/store, in {tmp_path}/run")
    assert " WARNING MainProcess experiments.logs: look here" in lines[1] and "ended after" in lines[-1]
    assert ("Traceback" in log.read_text()) == (code == 1 and "Child" not in ending)
    if "Child" not in ending and code <= 2:
        assert ending.partition("'")[2].partition("\\n")[0] in log.read_text()


@pytest.mark.full
def test_a_bug_of_a_job_names_the_jobs_log(tmp_path):
    done = run(tmp_path, BUG, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path}/sweep")
    (log,) = (tmp_path / "sweep").glob("*/run.log")
    assert done.returncode == 2, "as for every failed job"
    assert f"error: RuntimeError: broken (a bug; {log} has its traceback)" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr and "Traceback" in log.read_text()


@pytest.mark.full
def test_who_wants_a_traceback_gets_it(tmp_path):
    command = [sys.executable, "-c", RUN.format(ending=BUG), f"store={tmp_path}", f"hydra.run.dir={tmp_path}/run"]
    environment = {"HYDRA_FULL_ERROR": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "Traceback" in done.stderr
