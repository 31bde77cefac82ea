"""Calibration: run the denoiser on the calibration set and watch every activation that can be quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import HistogramObserver, Ranges
from qvd.graph.attention import OperandAttnProcessor, Operands, check_processor
from qvd.graph.sites import OPERANDS, attention_modules, channel_dim, operand_sites, weighted_layers
from qvd.options.progress import Progress, no_progress


@contextmanager
def layer_inputs_to(denoiser: nn.Module, sinks: Mapping[str, Callable[[Tensor], object]]) -> Iterator[None]:
    """While open, `sinks[name]` is called with each input of the weighted layer `name`."""

    def hook(name: str) -> Callable[..., None]:
        def watch(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            sinks[name](args[0] if args else kwargs["input"])

        return watch

    layers = weighted_layers(denoiser)
    handles = [layers[name].register_forward_pre_hook(hook(name), with_kwargs=True) for name in sinks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def attention_operands_to(denoiser: nn.Module, sinks: Mapping[str, Callable[[Tensor], object]]) -> Iterator[None]:
    """While open, `sinks["<attention>.<operand>"]` is called with each attention operand; the output is unchanged."""

    def watched(site: str) -> Callable[[Tensor], Tensor]:
        def operand(x: Tensor) -> Tensor:
            sinks[site](x)
            return x

        return operand

    attentions = attention_modules(denoiser)
    originals = {name: attn.processor for name, attn in attentions.items()}
    try:
        for name, attn in attentions.items():
            check_processor(name, attn)
            q, k, probabilities, v = (watched(f"{name}.{operand}") for operand in OPERANDS)
            attn.processor = OperandAttnProcessor(Operands(q, k, probabilities, v))
        yield
    finally:
        for name, attn in attentions.items():
            attn.processor = originals[name]


@torch.inference_mode()
def observe(
    denoiser: nn.Module, calibration: CalibrationSet, batch_size: int = 16, progress: Progress = no_progress
) -> Ranges:
    """Statistics of every weighted layer's input and of every attention operand, in floating point.

    Args:
        denoiser: a diffusers model; unchanged afterwards.
        calibration: streamed, `batch_size` entries at a time.

    Raises:
        RuntimeError: a layer that the calibration never reached, by name.
    """
    layers = {name: HistogramObserver(channel_dim(layer)) for name, layer in weighted_layers(denoiser).items()}
    operands = {site: HistogramObserver(None) for site in operand_sites(denoiser)}
    layer_sinks = {site: o.update for site, o in layers.items()}
    operand_sinks = {site: o.update for site, o in operands.items()}
    with layer_inputs_to(denoiser, layer_sinks), attention_operands_to(denoiser, operand_sinks):
        for batch in progress(calibration.batches(batch_size), "observe"):
            denoiser(**batch)
    observers = layers | operands
    unseen = [site for site, observer in observers.items() if observer.bounds is None]
    if unseen:
        raise RuntimeError(f"calibration never reached {', '.join(unseen)}: nothing to choose a range from")
    return Ranges({site: observer.result() for site, observer in observers.items()})
