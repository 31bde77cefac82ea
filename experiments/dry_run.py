"""Does a full-size model fit, and how long does each stage take? `python -m experiments.dry_run model=modelscope`

Every stage runs once, for one video and few steps, with random weights in the true architecture (unless
`model.init=pretrained`): memory and time, never quality. Any other overrides work as in run.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.attributes import compose_run_config
from experiments.config import RunConfig
from experiments.errors import one_line_errors
from experiments.progress import Reporter
from experiments.stages import Stages
from qvd.store import Store

DEFAULTS = {
    "model.init": "random",
    "num_inference_steps": "2",
    "quantizer.calibration.num_samples": "1",
    "quantizer.calibration.num_steps": "1",
}
GIB = 2**30


def stages_of(config: RunConfig, folder: Path) -> Iterator[tuple[str, float, int]]:
    """Run the stages in order and yield name, seconds and peak memory in bytes of each as it ends."""
    stages, arm = Stages(config, Store(folder), Reporter()), config.arms[-1]
    fp = stages.samples(None)
    yield "FP sampling (with loading)", fp.seconds, fp.peak_memory_bytes
    calibration = stages.calibration(arm.method.calibration)
    yield "calibration set", calibration.seconds, calibration.peak_memory_bytes
    ranges = stages.ranges(calibration)
    yield "ranges", ranges.seconds, ranges.peak_memory_bytes
    quantized = stages.quantization(arm, calibration, ranges)
    yield "quantization", quantized.seconds, quantized.peak_memory_bytes
    samples = stages.samples(quantized)
    yield "quantized sampling", samples.seconds, samples.peak_memory_bytes


def main() -> None:
    words = sys.argv[1:]
    given = {word.partition("=")[0] for word in words}
    words += [f"{key}={value}" for key, value in DEFAULTS.items() if key not in given]
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        config = replace(compose_run_config(words), n_videos=1)
        arm = config.arms[-1]
        table = Table(
            title=f"{config.model_name}, {arm.method.name} {arm.bits}, {config.num_inference_steps} steps\n"
            f"{config.model.init.value} weights: memory and time, no quality"
        )
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        table.add_column("peak GiB", justify="right")
        for name, seconds, peak in stages_of(config, Path(folder)):
            table.add_row(name, f"{seconds:.1f}", f"{peak / GIB:.2f}")
            print(f"{name}: {seconds:.1f} s, peak {peak / GIB:.2f} GiB", file=sys.stderr)
        Console().print(table)


if __name__ == "__main__":
    main()
