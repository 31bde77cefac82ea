"""The main job as a user runs it: the command line, the shipped models, no part replaced."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.small_run import BATCH, N_VIDEOS, QUANTIZED

ROOT = Path(__file__).parent.parent.parent
QVD, BATCHES = QUANTIZED[1], -(-N_VIDEOS // BATCH)
FEW = ["n_videos=10", "protocol.min_videos=8", "model.batch_size=4", "num_inference_steps=2"]
QUICK = ["workers=2", *FEW, "quantizer.calibration.num_samples=2", "quantizer.calibration.num_steps=2"]
REQUIRED = {
    *("fvd", "fvd_inf", "fvd_ci", "fvd_fp", "clipsim", "psnr_fp", "ssim_fp"),
    *("n_videos", "protocol", "extractor", "model_bytes", "bops", "kvd", "seconds"),
}


def command(store, *words):
    return [sys.executable, "run.py", f"store={store}", f"hydra.run.dir={store}/run", *words]


def run(store, *words, **options):
    return subprocess.run(command(store, *words), cwd=ROOT, capture_output=True, text=True, **options)


def without(metrics, keys):
    plain = {key: value for key, value in metrics.items() if key not in keys}
    return {key: without(value, keys) if isinstance(value, dict) else value for key, value in plain.items()}


def stored(small_run):
    """When each file of the store was written."""
    store = small_run.folder / "store"
    return {path.relative_to(store): path.stat().st_mtime_ns for path in store.rglob("*.safetensors")}


def test_the_run_folder_is_printed_last_and_complete(small_run):
    shown, folder = small_run.shown_file.read_text(), small_run.folder / "run"
    assert shown.strip().splitlines()[-1] == str(folder)
    for name in (
        "metrics.json",
        "table.md",
        "table.csv",
        "grid.png",
        "samples.gif",
        "samples.mp4",
        "report.html",
    ):
        assert (folder / name).exists(), name
    assert f"| {QVD} | tiny | {N_VIDEOS} |" in (folder / "table.md").read_text()
    assert "Results" in shown and "report: " in shown
    report = (folder / "report.html").read_text()
    for figure in ("temporal levels", "temporal distances", "channel ranges", "coverage"):
        assert figure in report, figure


def test_the_log_tells_every_stage_whoever_computed_it(small_run, tmp_path):
    log = (small_run.folder / "run" / "run.log").read_text()
    assert "torch 2." in log and "device cpu, threads " in log and f"store {small_run.folder}/store" in log
    artifacts = [line.split() for line in (small_run.folder / "run" / "artifacts.txt").read_text().splitlines()]
    stages = {"samples", "calibration", "ranges", "quantization", "sqnr", "features", "metrics", "fp_cost"}
    assert stages <= {stage for stage, _ in artifacts}
    for stage, key in artifacts:
        computed = rf"(worker-[01]|MainProcess) qvd.store.artifacts: {stage} {key[:12]}: computed in \d+\.\d s$"
        assert re.search(computed, log, re.M), (stage, key)
    assert re.search("worker-[01] qvd.store.artifacts: quantization ", log)
    assert not re.search("━|ETA|\x1b", log), "a progress bar"
    copy = small_run.copy(tmp_path / "copy")
    copy.again(f"hydra.run.dir={tmp_path}/again")
    again = (tmp_path / "again" / "run.log").read_text()
    assert f"samples {next((copy.folder / 'store' / 'samples').glob('*.json')).stem[:12]}: from the store" in again
    assert not re.search(r"(samples|calibration|ranges|quantization|sqnr|metrics) \w+: computed", again)


SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD")


@pytest.mark.full
def test_no_secret_of_the_environment_is_written_anywhere(small_run, tmp_path):
    """Run folder, wandb's files in it, store and terminal, of a run that ends well and of one that is refused."""
    copy, marker = small_run.copy(tmp_path / "copy"), "5ecret" * 6 + "0000"  # as long as wandb's keys
    environment = {**os.environ, **dict.fromkeys(SECRETS, marker)}
    words = [*copy.command, "tracking=offline", f"hydra.run.dir={tmp_path}/logged"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "logged" / "wandb").glob("offline-run-*/*.wandb"))
    bad = [*copy.command, "objective=nothing", f"hydra.run.dir={tmp_path}/refused"]
    refused = subprocess.run(bad, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert refused.returncode == 2
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 50
    assert not [path for path in written if marker.encode() in path.read_bytes()]
    assert marker not in done.stdout + done.stderr + refused.stdout + refused.stderr


def test_metrics_hold_what_was_promised(small_run):
    metrics = small_run.metrics[QVD]
    assert set(metrics) >= REQUIRED
    assert metrics["n_videos"] == N_VIDEOS and metrics["protocol"] == "tiny"
    assert metrics["fvd_ci"][0] <= metrics["fvd"] <= metrics["fvd_ci"][1]
    for name in ("fvd", "fvd_inf", "fvd_fp", "clipsim", "clip_temp", "psnr_fp", "ssim_fp", "flicker"):
        low, high = metrics[f"{name}_ci"]
        assert low <= high, name
    assert metrics["fvd_fp"] > 0 and 0 < metrics["ssim_fp"] < 1 and metrics["psnr_fp"] > 5
    assert metrics["model_bytes"]["stored"] < small_run.metrics["fp"]["model_bytes"]["stored"]
    assert set(metrics["seconds"]) >= {"calibration", "quantization", "sampling"}


def test_the_second_run_comes_from_the_store(small_run, tmp_path):
    copy = small_run.copy(tmp_path / "copy")
    before = stored(copy)
    copy.again("tracking=offline")
    assert stored(copy) == before
    assert without(copy.metrics, {"command"}) == without(small_run.metrics, {"command"})
    assert list((copy.folder / "run" / "wandb").glob("offline-run-*"))


@pytest.mark.full
def test_killed_during_sampling_the_same_command_goes_on(small_run, tmp_path):
    """SIGKILL after the first batches of quantized arms; one process then ends with two workers' metrics."""
    killed = small_run.anew(tmp_path / "killed")
    run_until(killed.command, killed.folder / "store", "quantization/*.json", 1)
    files = run_until(killed.command, killed.folder / "store", "samples/*.json", BATCHES + 1)
    assert len(files) < 3 * BATCHES
    killed.again("workers=1")
    unlike = {"seconds", "peak_memory_bytes", "command"}
    assert without(killed.metrics, unlike) == without(small_run.metrics, unlike)


@pytest.mark.full
def test_killed_during_reconstruction_the_same_command_goes_on_at_the_next_unit(tmp_path):
    """SIGKILL after the second unit; the weights are bit-equal to those of a run that was let alone."""
    settings = ["adaround.iterations=5", "adaround.entries=8", "lsq.iterations=2", "lsq.entries=8"]
    words = ["quantizer=qdiffusion", "bits=w4a8", *QUICK, *(f"quantizer.{setting}" for setting in settings)]
    killed, alone, units = tmp_path / "killed", tmp_path / "alone", "quantization/*.work/rounding/*.record"
    finished = run_until(command(killed, *words), killed, units, 2)
    assert not list(killed.glob("quantization/*.json"))
    later = run_until(command(killed, *words), killed, units, len(finished) + 1)
    assert finished.items() <= later.items(), "a finished unit was learned again"
    for store in (killed, alone):
        run_until(command(store, *words), store, "quantization/*.json", 1)
    resumed, expected = (next(store.glob("quantization/*.safetensors")).read_bytes() for store in (killed, alone))
    assert resumed == expected


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "everyone", "code", "says"),
    [
        (signal.SIGINT, True, 130, "interrupted"),  # Ctrl-C in a terminal reaches the run and its workers
        (signal.SIGTERM, True, 143, "terminated"),  # some schedulers tell the whole group
        (signal.SIGTERM, False, 143, "terminated"),
    ],
)
def test_interrupted_a_run_ends_at_once_says_so_in_one_line_and_goes_on(tmp_path, number, everyone, code, says):
    words = command(tmp_path, "quantizer=naive", "bits=w4a8", *QUICK)
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_files(process, tmp_path, "samples/*.json", 1)
    (os.killpg if everyone else os.kill)(process.pid, number)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == code
    assert shown.strip().splitlines()[-1] == f"{says}: the same command goes on where this one stopped"
    assert "Traceback" not in shown and "leaked" not in shown
    deadline = time.monotonic() + 5  # multiprocessing's own helper sees the run's end, and follows
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not members(process.pid), "a worker outlived the run"
    saved = set(tmp_path.glob("*/*.safetensors"))
    assert f"{says}; the same command goes on" in (tmp_path / "run" / "run.log").read_text()
    before = {path: path.stat().st_mtime_ns for path in saved}
    assert run(tmp_path, *words[4:]).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in saved} == before, "what was saved was computed again"


def members(group):
    """The processes of a group that still run."""
    stats = [path.read_text().rpartition(")")[2].split() for path in _readable(Path("/proc").glob("[0-9]*/stat"))]
    return [stat for stat in stats if int(stat[2]) == group and stat[0] != "Z"]


def _readable(paths):
    return [path for path in paths if path.exists()]


def run_until(words, store, pattern, count):
    """Run, and SIGKILL as soon as `count` files are in the store; these, and when each was written."""
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = wait_for_files(process, store, pattern, count)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return {file: file.stat().st_mtime_ns for file in files}


def wait_for_files(process, store, pattern, count):
    """The files of a run that still goes on, as soon as there are `count`."""
    deadline = time.monotonic() + 300
    while len(files := list(store.glob(pattern))) < count:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.02)
    return files


@pytest.mark.full
def test_a_damaged_store_file_is_recomputed_with_a_warning(small_run, tmp_path):
    copy = small_run.copy(tmp_path / "copy")
    victim = next((copy.folder / "store" / "quantization").glob("*.safetensors"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-8])
    assert "damaged store file" in copy.again().stderr
    assert victim.read_bytes() == whole


@pytest.mark.full
def test_a_multirun_ends_in_one_table(tmp_path):
    words = ["bits=w4a8", *QUICK]
    noted = ["objective=psnr_fp", "+hydra.callbacks.returned._target_=tests.integration.returned.Returned"]
    sweep = ["hydra.mode=MULTIRUN", "quantizer=qvd,naive", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = run(tmp_path, *sweep, *words, *noted, "trusted=[tests]")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().splitlines()[-1]) == tmp_path / "sweep"
    records = json.loads((tmp_path / "sweep" / "metrics.json").read_text())
    assert [(record["quantizer"], record["bits"]) for record in records] == [
        ("fp", "fp"),
        ("qvd", "w4a8"),
        ("naive", "w4a8"),
    ]
    assert run(tmp_path, "quantizer=qvd", *words).returncode == 0
    alone = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert records[1]["fvd_fp"] == alone["fvd_fp"]
    returned = [float((tmp_path / "sweep" / f"returned-{job}").read_text()) for job in range(2)]
    assert returned == [record["psnr_fp"] for record in records[1:]], "a sweeper must get each job's objective"


@pytest.mark.full
def test_a_sweep_goes_on_after_a_failed_job(tmp_path):
    words = ["hydra.mode=MULTIRUN", "quantizer=naive", "bits=w4a8", f"hydra.sweep.dir={tmp_path}/failing", *QUICK]
    done = run(tmp_path, *words, "seed=-1,0")
    assert done.returncode == 2
    records = json.loads((tmp_path / "failing" / "metrics.json").read_text())
    assert [(record["setting"], "error" in record) for record in records] == [
        ("seed=0", False),
        ("seed=0", False),
        ("seed=-1", True),
    ]


@pytest.mark.full
def test_a_folder_of_videos_as_reference(tmp_path, footage):
    done = run(tmp_path, "quantizer=fp", *FEW, "dataset=folder", f"dataset.root={footage}")
    assert done.returncode == 0, done.stderr
    assert "folder" in (tmp_path / "run" / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantizer=nope"], "error: quantizer=nope: allowed are"),
        (["bits=w99a8"], "error: bits=w99a8: allowed are"),
        (["n_videos=3"], "error: n_videos=3: must be"),
        pytest.param(["objective=psnr"], "error: objective=psnr: allowed are", marks=pytest.mark.full),
        pytest.param(
            ["quantizer.rules=[{pattern: nothing.*, weight_bits: 8, activation_bits: 8}]", *QUICK],
            "matches no layer",
            marks=pytest.mark.full,
        ),
    ],
)
def test_bad_input_ends_with_one_line_and_no_traceback(words, message, tmp_path):
    done = run(tmp_path, *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_every_unusable_video_is_named_or_counted(tmp_path, footage):
    """Truncated, empty and no video at all, in UCF-101's layout, through the command line."""
    folder = tmp_path / "UCF-101" / "YoYo"
    folder.mkdir(parents=True)
    shutil.copy(footage / "pan.mp4", folder / "a.mp4")
    shutil.copy(footage / "fast.mp4", folder / "b.mp4")
    (folder / "cut.mp4").write_bytes((footage / "pan.mp4").read_bytes()[:-2000])
    (folder / "empty.avi").touch()
    (folder / "text.avi").write_text("no video")
    words = ["dataset=ucf101", f"dataset.root={folder.parent}", "quantizer=fp", "n_videos=83", "num_inference_steps=2"]
    done = run(tmp_path, *words)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    for name, reason in (("cut.mp4", "truncated"), ("empty.avi", "empty file"), ("text.avi", "not a video")):
        assert re.search(rf"^error: {folder}/{name}: .*{reason}", done.stderr, re.MULTILINE), done.stderr
    done = run(tmp_path, *words, "dataset.skip_bad=true")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(metrics["reference_skipped"]) == 3 and metrics["n_reference"] == 80
