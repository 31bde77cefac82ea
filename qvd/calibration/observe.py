"""Calibration: run the denoiser on the calibration set and watch every activation that can be quantized."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import HistogramObserver, Ranges
from qvd.graph.finite import NotFiniteError, wider
from qvd.graph.hooks import attention_operands_to, layer_inputs_to
from qvd.graph.sites import channel_dim, operand_sites, weighted_layers
from qvd.options.progress import Progress, no_progress


@torch.inference_mode()
def observe(
    denoiser: nn.Module, calibration: CalibrationSet, batch_size: int = 16, progress: Progress = no_progress
) -> Ranges:
    """Statistics of every weighted layer's input and of every attention operand, in floating point.

    Args:
        denoiser: a diffusers model; unchanged afterwards.
        calibration: streamed, `batch_size` entries at a time.

    Raises:
        NotFiniteError: NaN or infinity in what a layer reads, by name.
        RuntimeError: a layer that the calibration never reached, by name.
    """
    layers = {name: HistogramObserver(channel_dim(layer)) for name, layer in weighted_layers(denoiser).items()}
    operands = {site: HistogramObserver(None) for site in operand_sites(denoiser)}
    dtype = next(denoiser.parameters()).dtype
    layer_sinks = {site: _named(site, observer, dtype) for site, observer in layers.items()}
    operand_sinks = {site: _named(site, observer, dtype) for site, observer in operands.items()}
    with layer_inputs_to(denoiser, layer_sinks), attention_operands_to(denoiser, operand_sinks):
        for batch in progress(calibration.batches(batch_size), "observe"):
            denoiser(**batch)
    observers = layers | operands
    unseen = [site for site, observer in observers.items() if observer.bounds is None]
    if unseen:
        raise RuntimeError(f"calibration never reached {', '.join(unseen)}: nothing to choose a range from")
    return Ranges({site: observer.result() for site, observer in observers.items()})


def _named(site: str, observer: HistogramObserver, dtype: torch.dtype) -> Callable[[Tensor], None]:
    """The observer's `update`, with errors that say where and what to do."""

    def update(x: Tensor) -> None:
        try:
            observer.update(x)
        except NotFiniteError:
            kind = str(dtype).removeprefix("torch.")
            raise NotFiniteError(f"calibration: what {site} reads is not finite in {kind}; {wider(dtype)}") from None

    return update
