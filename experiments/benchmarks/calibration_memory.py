"""Peak memory of calibration (capture and observe) above the loaded model, for a small and a large calibration set.

    python -m experiments.benchmarks.calibration_memory

Each size runs in its own process over an empty store. Exit status 1: the limits below are not kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.attributes import compose_run_config
from experiments.progress import Reporter
from experiments.stages.stages import Stages
from qvd.options.calibration import CalibrationPlan
from qvd.store.artifacts import Store

MAX_BYTES_ABOVE_MODEL = 2 * 2**30
MAX_GROWTH = 1.10
POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Measurement:
    """One size's figures: bytes resident with the model loaded, the highest afterwards, and seconds."""

    samples: int
    model_bytes: int
    peak_bytes: int
    seconds: float

    @property
    def above_model(self) -> int:
        return self.peak_bytes - self.model_bytes


def calibrate(samples: int, steps: int, inference_steps: int, store: str) -> None:
    """What a run does up to its ranges; says `ready` and waits for a line once the model is loaded."""
    words = ["model=tiny_modelscope", "quantizer=fp", f"num_inference_steps={inference_steps}"]
    stages = Stages(compose_run_config(words), Store(store), Reporter())
    assert stages.fp_denoiser is not None
    print("ready", flush=True)
    sys.stdin.readline()
    stages.ranges(stages.calibration(CalibrationPlan(samples, steps)))


def measure(samples: int, steps: int, inference_steps: int) -> Measurement:
    """Run `calibrate` in a process of its own, watching the kernel's high-water mark of its memory.

    The mark is polled, since every stage of the run resets it for its own use.
    """
    with tempfile.TemporaryDirectory() as store:
        words = [sys.executable, "-m", "experiments.benchmarks.calibration_memory", "--worker", store]
        words += ["--samples", str(samples), "--steps", str(steps), "--inference-steps", str(inference_steps)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(words, text=True, **pipes)  # type: ignore[call-overload]
        assert process.stdout.readline().strip() == "ready", "the worker ended before its model was loaded"
        model_bytes, started = _status(process.pid, "VmRSS"), time.perf_counter()
        process.stdin.write("\n")
        process.stdin.flush()
        peak = model_bytes
        while process.poll() is None:
            peak = max(peak, _status(process.pid, "VmHWM"))
            time.sleep(POLL_SECONDS)
        if process.returncode:
            raise SystemExit(f"calibration with {samples} samples failed")
        return Measurement(samples, model_bytes, peak, time.perf_counter() - started)


def _status(pid: int, field: str) -> int:
    """Bytes of a field of /proc/PID/status; 0 once the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--steps", type=int, default=1, help="captured timesteps per sample")
    parser.add_argument("--inference-steps", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        calibrate(options.samples[0], options.steps, options.inference_steps, options.worker)
        return
    results = [measure(samples, options.steps, options.inference_steps) for samples in options.samples]
    table = Table(title="Calibration: capture and observe, tiny_modelscope", title_justify="left")
    for header in ("samples", "model MB", "peak above model MB", "seconds"):
        table.add_column(header, justify="right")
    for r in results:
        figures = (r.model_bytes / 1e6, r.above_model / 1e6, r.seconds)
        table.add_row(str(r.samples), *(f"{value:.1f}" for value in figures))
    Console().print(table)
    growth = results[-1].above_model / results[0].above_model
    print(f"growth of the peak above the model: {growth:.3f} (limit {MAX_GROWTH})")
    if growth > MAX_GROWTH or max(r.above_model for r in results) > MAX_BYTES_ABOVE_MODEL:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
