"""Does a full-size model fit, and how long does each stage take? `python -m experiments.dry_run model=modelscope`

Every stage runs once, for one video and one step, with random weights in the true architecture (unless
`model.init=pretrained`): memory and time, never quality. Any other overrides work as in run.py, and the table names
whatever differs from the config. Temporal features are those of the config's whole number of steps.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF, GROUPS
from experiments.config.run_config import RunConfig
from experiments.float32_layers import fastest_layers
from experiments.progress import Reporter
from experiments.stages.stages import StageOutput, Stages
from metrics.devices import check_device
from metrics.errors import one_line_errors
from qvd.options.model import DType
from qvd.store.artifacts import Store
from qvd.store.memory import PeakMemory

DEFAULTS = {
    "model.init": "random",
    "num_inference_steps": "1",
    "quantizer.calibration.num_samples": "1",
    "quantizer.calibration.num_steps": "1",
}
GIB = 2**30
Measured = tuple[str, float, int]
Output = TypeVar("Output", bound=StageOutput)


def stages_of(config: RunConfig, folder: Path) -> Iterator[Measured]:
    """Run the stages in order and yield name, seconds and peak memory in bytes of each as it ends.

    Loading, writing to the store and reading back are part of a stage.
    """
    stages, arm = Stages(config, Store(folder), Reporter()), config.arms[-1]
    # Enumerating timesteps is cheap, and a single one has no neighbour to be told apart from.
    whole = stages.for_videos(config.n_videos)
    whole.config = replace(config, num_inference_steps=config.model.num_inference_steps)
    _, row = measured("FP sampling (with loading)", lambda: stages.samples(None))
    yield row
    calibration, row = measured("calibration set", lambda: stages.calibration(arm.method.calibration))
    yield row
    ranges, row = measured("ranges", lambda: stages.ranges(calibration))
    yield row
    quantized, row = measured("quantization", lambda: whole.quantization(arm, calibration, ranges))
    yield row
    _, row = measured("quantized sampling", lambda: stages.samples(quantized))
    yield row


def measured(name: str, stage: Callable[[], Output]) -> tuple[Output, Measured]:
    """A stage's output, and its name, seconds and peak memory in bytes."""
    memory, started = PeakMemory(), time.perf_counter()
    output = stage()
    # The store measures too, and starts the kernel's high-water mark anew for it.
    return output, (name, time.perf_counter() - started, max(output.peak_memory_bytes, memory.read()))


def differences(words: list[str]) -> list[str]:
    """The `key=value` words that differ from what the config says for the chosen groups, with that value."""
    choices = [word for word in words if key_of(word) in GROUPS]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = compose("config", choices)
    values = [word.lstrip("+") for word in words if word not in choices]
    given, found = OmegaConf.from_dotlist(values), []
    for key in map(key_of, values):
        value, usual = OmegaConf.select(given, key), OmegaConf.select(plain, key)
        if value != usual:
            found.append(f"{key}={value} instead of {usual}")
    return found


def key_of(word: str) -> str:
    """What a `key=value` word of a command line sets."""
    return word.lstrip("+").partition("=")[0]


def main() -> None:
    words = sys.argv[1:]
    given = set(map(key_of, words))
    words += [f"{key}={value}" for key, value in DEFAULTS.items() if key not in given]
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        config = replace(compose_run_config(words), n_videos=1)
        check_device(config.device)
        half = config.model.dtype is not DType.float32
        arm = config.arms[-1]
        with fastest_layers(config.device if half else "") as widened:
            table = Table(
                title=f"{config.model_name}, {arm.method.name} {arm.bits}, 1 video\n"
                f"{config.model.init.value} weights: memory and time, no quality\n" + "\n".join(differences(words)),
                caption=f"{config.model.dtype.value} weights"
                + (", layers computed in float32: this CPU has no bfloat16 arithmetic" if widened else ""),
            )
            for column in ("stage", "seconds", "peak GiB"):
                table.add_column(column, justify="left" if column == "stage" else "right")
            rows = []
            for name, seconds, peak in stages_of(config, Path(folder)):
                rows.append((seconds, peak))
                table.add_row(name, f"{seconds:.1f}", f"{peak / GIB:.2f}")
                print(f"{name}: {seconds:.1f} s, peak {peak / GIB:.2f} GiB", file=sys.stderr, flush=True)
        table.add_section()
        table.add_row("all", f"{sum(s for s, _ in rows):.1f}", f"{max(p for _, p in rows) / GIB:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
