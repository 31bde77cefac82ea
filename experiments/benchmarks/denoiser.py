"""What quantization costs at run time, on `backend=…`: `python -m experiments.benchmarks.denoiser [overrides]`

Times one forward of the FP, naive and QVD denoisers on a batch of calibration entries, and QVD's layers against
naive's where a norm has absorbed shift and scale. Prints ratios of interleaved runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.attributes import compose_run_config
from experiments.benchmarks.timing import interleaved_seconds, print_ratios
from experiments.config.run_config import RunConfig
from experiments.progress import Reporter
from experiments.stages.stages import Stages
from metrics.errors import one_line_errors
from qvd.backends.convert import convert
from qvd.graph.absorb import absorbing_norms
from qvd.graph.hooks import layer_inputs_to
from qvd.spec.quantization import Quantization
from qvd.store.artifacts import Store

ENTRIES = 8
METHODS = ("naive", "qvd")


def quantized(config: RunConfig, stages: Stages) -> Quantization:
    """The quantization of the config's only arm, from the store or computed."""
    (arm,) = config.arms
    calibration = stages.calibration(arm.method.calibration)
    artifact = stages.quantization(arm, calibration, stages.ranges(calibration))
    return Quantization.from_tensors(artifact.tensors, artifact.metadata)


def absorbed_readers(
    denoiser: nn.Module, quantization: Quantization, example: dict[str, Tensor]
) -> dict[str, list[str]]:
    """Norm → the layers behind it, for the norms that absorbed a transform."""
    used = {layer.absorbed_by for layer in quantization.layers.values()}
    return {norm: readers for norm, readers in absorbing_norms(denoiser, example).items() if norm in used}


def run_layers(model: nn.Module, readers: dict[str, list[str]], inputs: dict[str, Tensor]) -> Callable[[], None]:
    """A call of every layer in `readers` on its own input."""
    calls: list[tuple[Any, Tensor]] = [(model.get_submodule(n), inputs[n]) for names in readers.values() for n in names]

    @torch.inference_mode()
    def run() -> None:
        for layer, x in calls:
            layer(x)

    return run


def main() -> None:
    with one_line_errors():
        words = sys.argv[1:]
        configs = {name: compose_run_config([f"quantizer={name}", "bits=w8a8", *words]) for name in METHODS}
        first = configs["naive"]
        stages = {name: Stages(config, Store(config.store), Reporter()) for name, config in configs.items()}
        quantizations = {name: quantized(configs[name], stages[name]) for name in METHODS}
        denoiser = stages["naive"].fp_denoiser
        captured = stages["naive"].calibration(first.arms[0].method.calibration)
        entries = captured.calibration_set("cpu").take(range(ENTRIES))
        models = {"fp": denoiser} | {name: convert(denoiser, q, first.backend) for name, q in quantizations.items()}

        inputs: dict[str, Tensor] = {}
        readers = absorbed_readers(denoiser, quantizations["qvd"], {k: v[:1] for k, v in entries.items()})
        names = [n for of_norm in readers.values() for n in of_norm]
        with torch.inference_mode(), layer_inputs_to(denoiser, {n: _keep(inputs, n) for n in names}):
            denoiser(**entries)
        layers = {name: run_layers(models[name], readers, inputs) for name in METHODS}
        print_ratios(
            f"{len(names)} layers behind {len(readers)} norms that absorbed QVD's shift and scale, w8a8",
            interleaved_seconds(layers, rounds=41, warmup=5),
            "naive",
        )
        print_ratios(
            f"one forward, batch {ENTRIES}, w8a8",
            interleaved_seconds({n: _forward(m, entries) for n, m in models.items()}, rounds=15),
            "fp",
        )


def _keep(inputs: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    def keep(x: Tensor) -> None:
        inputs[name] = x

    return keep


def _forward(model: nn.Module, entries: dict[str, Tensor]) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        model(**entries)

    return run


if __name__ == "__main__":
    main()
