"""A multirun ends in one table: every job's arms, told apart by what was swept, the same FP arm once."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.pivot import read_arms
from experiments.record import arm_record, metrics_document
from experiments.report.joint_table import read_failures, read_sweep, settings, swept_number, write_joint_table
from experiments.scores import write_scores
from experiments.sweep import job_errors
from metrics.decoding import VideoError
from tests.experiments.arms import scored

ROOT = Path(__file__).parents[2]


def finish_job(folder, words, arms):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    (folder / "metrics.json").write_text(json.dumps(metrics_document(arms)))


def fail_job(folder, words, error):
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    with job_errors(folder, name="qvd w8a8", quantizer="qvd", bits="w8a8", command="python run.py"):
        raise error


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        ([["quantizer=naive", "bits=w8a8"], ["quantizer=qvd", "bits=w8a8"]], ["", ""]),
        ([["model=a", "quantizer=fp"], ["model=b", "quantizer=fp"]], ["a", "b"]),
        (
            [["experiment=e", "model.disparity=1"], ["experiment=e", "model.disparity=4"]],
            ["model.disparity=1", "model.disparity=4"],
        ),
        ([["seed=1", "model=a"], ["seed=2", "model=b"]], ["seed=1, a", "seed=2, b"]),
    ],
)
def test_a_setting_is_what_differs(jobs, told):
    assert settings(jobs) == told


def test_jobs_are_read_in_order_and_fp_once(tmp_path, arms):
    finish_job(tmp_path / "10-b", ["model=b"], arms)
    finish_job(tmp_path / "2-a", ["model=a"], arms)
    finish_job(tmp_path / "3-a", ["model=a"], arms)
    (tmp_path / "4-failed").mkdir()
    rows = read_sweep(tmp_path)
    assert [(row.setting, row.name) for row in rows] == [
        ("a", "fp"),
        ("a", "qvd w8a8"),
        ("b", "fp"),
        ("b", "qvd w8a8"),
    ]
    assert arm_record(rows[1]) == arm_record(arms[1])


def test_the_joint_table_names_each_setting(tmp_path, arms, capsys):
    for number, model in enumerate(("a", "b")):
        finish_job(tmp_path / f"{number}-{model}", [f"model={model}"], arms)
    write_joint_table(read_sweep(tmp_path), tmp_path)
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith(("| a |", "| b |"))]
    assert len(rows) == 4 and rows[3].startswith("| b | qvd w8a8 |")
    assert (tmp_path / "table.csv").read_text().startswith("setting,arm,")
    assert [record["setting"] for record in json.loads((tmp_path / "metrics.json").read_text())] == ["a", "a", "b", "b"]
    assert "Results of the sweep" in capsys.readouterr().out


def test_arms_of_several_jobs_of_one_setting_are_ranked_together(tmp_path, arms):
    for number, (name, moved) in enumerate((("near", 0.1), ("far", 0.4))):
        job = [scored(arms[0], "fp", "fp", 40), scored(arms[1], name, "w8a8", 40, moved)]
        finish_job(tmp_path / f"{number}-x", [f"quantizer={name}", "bits=w8a8"], job)
        write_scores(tmp_path / f"{number}-x" / "scores.csv", {arm.name: ([""] * 40, arm.scores) for arm in job})
    write_joint_table(read_sweep(tmp_path), tmp_path)
    rows = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert [(row["arm"], row["rank"]) for row in rows] == [("fp", ""), ("near w8a8", "1"), ("far w8a8", "2")]
    assert "## Moved ↓ (w8a8, N = 40)" in (tmp_path / "comparisons.md").read_text()
    (document,) = json.loads((tmp_path / "comparisons.json").read_text())
    assert document["arms"] == ["fp", "near w8a8", "far w8a8"]


def test_a_swept_number_has_curves(tmp_path, arms):
    for number, disparity in enumerate((1, 8)):
        finish_job(tmp_path / f"{number}-d", [f"model.disparity={disparity}"], arms)
    rows = read_sweep(tmp_path)
    key, by_value = swept_number(rows)
    assert key == "model.disparity" and {x: len(of_x) for x, of_x in by_value.items()} == {1.0: 2, 8.0: 2}
    write_joint_table(rows, tmp_path)
    curves = list(tmp_path.glob("curves-*.png"))
    assert [path.name for path in curves] == [f"curves-{arms[1].bits}.png"]
    assert curves[0].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("words", [(["model=a"], ["model=b"]), (["seed=1", "n_videos=65"], ["seed=2", "n_videos=66"])])
def test_other_sweeps_have_none(tmp_path, arms, words):
    for number, of_job in enumerate(words):
        finish_job(tmp_path / f"{number}-x", of_job, arms)
    assert swept_number(read_sweep(tmp_path)) is None


def test_a_failed_job_is_a_row_that_says_why(tmp_path, arms, capsys):
    finish_job(tmp_path / "0-a", ["model=a"], arms)
    fail_job(tmp_path / "1-b", ["model=b"], VideoError("x.mp4: empty file\ny.mp4: truncated"))
    fail_job(tmp_path / "2-c", ["model=c"], RuntimeError("a | b"))
    shown = capsys.readouterr().err
    assert shown.startswith("error: x.mp4: empty file\nerror: y.mp4: truncated\nTraceback") and "a | b" in shown
    write_joint_table(read_sweep(tmp_path), tmp_path, read_failures(tmp_path))
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["setting"], row["arm"], row["error"]) for row in rows] == [
        ("a", "fp", ""),
        ("a", "qvd w8a8", ""),
        ("b", "qvd w8a8", "x.mp4: empty file; y.mp4: truncated"),
        ("c", "qvd w8a8", "RuntimeError: a | b"),
    ]
    assert r"| RuntimeError: a \| b |" in (tmp_path / "table.md").read_text()
    assert [arm.setting for arm in read_arms(tmp_path)] == ["a", "a"], "a pivot has no place for it"


def test_the_latest_run_of_a_job_counts(tmp_path, arms):
    finish_job(tmp_path / "0-a", ["model=a"], arms)
    fail_job(tmp_path / "0-a", ["model=a"], ValueError("later"))
    assert not read_sweep(tmp_path) and [failed.error for failed in read_failures(tmp_path)] == ["later"]
    with job_errors(tmp_path / "0-a"):
        pass
    assert len(read_sweep(tmp_path)) == 2 and not read_failures(tmp_path)


@pytest.mark.full
def test_every_job_is_tried_and_the_exit_code_tells(tmp_path):
    words = ["--multirun", "seed=-1,-2", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = subprocess.run([sys.executable, "run.py", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: seed=")] == [
        "error: seed=-1: must be an integer of at least 0, below 2**32",
        "error: seed=-2: must be an integer of at least 0, below 2**32",
    ]
    rows = list(csv.DictReader((tmp_path / "sweep" / "table.csv").open()))
    assert [row["setting"] for row in rows] == ["seed=-1", "seed=-2"]
    assert rows[0]["error"] == "seed=-1: must be an integer of at least 0, below 2**32"
    assert rows[0]["command"] == "python run.py seed=-1"
