"""Calibration: run the denoiser on the calibration set and watch every activation that can be quantized."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from qvd.calibration.calibration_set import Batches, CalibrationSet
from qvd.calibration.observers import HistogramObserver, Ranges
from qvd.graph.finite import NotFiniteError, wider
from qvd.graph.hooks import attention_operands_to, layer_inputs_to
from qvd.graph.sites import channel_dim, operand_sites, weighted_layers
from qvd.options.progress import Progress, no_progress

FOLDS = 4


@torch.inference_mode()
def observe(
    denoiser: nn.Module, calibration: CalibrationSet, batch_size: int = 16, progress: Progress = no_progress
) -> Ranges:
    """Statistics of every weighted layer's input and of every attention operand, in floating point.

    Samples are dealt out to `FOLDS` folds, so that what comes of some can be judged on others.

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
    folds = [calibration.batches_of(entries, batch_size).groups for entries in calibration.folds(FOLDS)]
    fold_of_batch = [number for number, groups in enumerate(folds) for _ in groups]
    batches, fold = Batches(calibration, [*chain(*folds)]), 0

    def watching(site: str, observer: HistogramObserver) -> Callable[[Tensor], None]:
        def take(x: Tensor) -> None:
            observer.update(x, fold)

        return _named(site, take, dtype)

    layer_sinks, operand_sinks = (
        {site: watching(site, observer) for site, observer in watched.items()} for watched in (layers, operands)
    )
    with layer_inputs_to(denoiser, layer_sinks), attention_operands_to(denoiser, operand_sinks):
        for number, batch in enumerate(progress(batches, "observe")):
            fold = fold_of_batch[number]
            denoiser(**batch)
    observers = layers | operands
    unseen = [site for site, observer in observers.items() if observer.bounds is None]
    if unseen:
        raise RuntimeError(f"calibration never reached {', '.join(unseen)}: nothing to choose a range from")
    return Ranges({site: observer.result() for site, observer in observers.items()})


def _named(site: str, take: Callable[[Tensor], object], dtype: torch.dtype) -> Callable[[Tensor], None]:
    """An observer's update, with errors that say where and what to do."""

    def update(x: Tensor) -> None:
        try:
            take(x)
        except NotFiniteError:
            kind = str(dtype).removeprefix("torch.")
            raise NotFiniteError(f"calibration: what {site} reads is not finite in {kind}; {wider(dtype)}") from None

    return update
