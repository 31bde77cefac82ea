"""Learning a unit as a whole, by autograd: the rounding of its weights, or the steps of its activation quantizers.

The loss is Q-Diffusion's (arXiv 2302.04304, §3.2, and its released settings): the mean over batch and space of
Σ_channel (ŷ - y)², for roundings plus λ·Σ(1 - |2h - 1|^β). Its released code sums tokens instead of channels where a
unit works on sequences; we always sum channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from qvd.algorithms.reconstruction.activations import CachedActivations
from qvd.algorithms.reconstruction.gram import Errors
from qvd.backends.lsq import StepQuantizer
from qvd.backends.trainable import TrainedUnit
from qvd.numerics.adaround import annealed_beta, regularizer
from qvd.options.reconstruction import AdaRoundSettings, LsqSettings

EVALUATION_BATCH = 16


def channel_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean over batch and space of Σ_channel (ŷ - y)²; channels come first in images and last in sequences."""
    return (output - target).square().sum(1 if output.dim() > 3 else -1).mean()


class UnitData:
    """Inputs of a unit from the quantized model, and its outputs in the floating-point model.

    Half-precision ones come as float32, which units are learned in whatever the model's own type.
    """

    def __init__(self, inputs: CachedActivations, targets: CachedActivations, device: torch.device) -> None:
        self.inputs, self.targets, self.device = inputs, targets, device
        self.num_entries = targets.num_entries

    def take(self, entries: Any) -> tuple[tuple[tuple, dict[str, Any]], Tensor]:
        """((args, kwargs), target) of some entries."""
        inputs, targets = (cache.take(entries, self.device, widen=True) for cache in (self.inputs, self.targets))
        return inputs, targets

    def sample(self, batch_size: int, generator: torch.Generator) -> tuple[tuple[tuple, dict[str, Any]], Tensor]:
        """A random batch of different entries."""
        return self.take(torch.randperm(self.num_entries, generator=generator)[:batch_size])

    def batches(self) -> Iterator[tuple[range, tuple[tuple, dict[str, Any]], Tensor]]:
        """All entries in order."""
        for start in range(0, self.num_entries, EVALUATION_BATCH):
            span = range(start, min(start + EVALUATION_BATCH, self.num_entries))
            yield span, *self.take(span)


@torch.no_grad()
def unit_error(unit: TrainedUnit, data: UnitData) -> float:
    """‖Ŷ - Y‖²/‖Y‖² over all entries."""
    error = power = 0.0
    for _, (args, kwargs), target in data.batches():
        error += (unit.module(*args, **kwargs) - target).square().sum().item()
        power += target.square().sum().item()
    return error / max(power, 1e-30)


def learn_rounding(unit: TrainedUnit, data: UnitData, settings: AdaRoundSettings, generator: torch.Generator) -> Errors:
    """AdaRound all weights of a unit together; it is left with the better of the learned and the initial rounding."""
    layers = unit.rounded_layers
    before = unit_error(unit, data)
    alphas = [layer.start_rounding() for layer in layers]
    optimizer = torch.optim.Adam(alphas, settings.learning_rate, fused=True)
    module: Callable[..., Tensor] = torch.compile(unit.module) if settings.compile else unit.module
    for iteration in range(settings.iterations):
        beta = annealed_beta(iteration, settings.iterations, settings.warmup, settings.beta_start, settings.beta_end)
        (args, kwargs), target = data.sample(settings.batch_size, generator)
        ups = [layer.soften() for layer in layers]
        with torch.autocast(data.device.type, torch.bfloat16, enabled=settings.autocast):
            loss = channel_loss(module(*args, **kwargs).float(), target)
        if beta is not None:
            loss = loss + settings.regularization * sum(regularizer(up, beta) for up in ups)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for layer, alpha in zip(layers, alphas, strict=True):
        layer.harden(alpha)
    errors = Errors(before, unit_error(unit, data))
    if not errors.improved:
        for layer in layers:
            layer.harden(None)
    return errors


def learn_steps(unit: TrainedUnit, data: UnitData, settings: LsqSettings, generator: torch.Generator) -> Errors:
    """LSQ of all affine activation scales of a unit; it is left with the better of the learned and the initial ones."""
    quantizers = unit.step_quantizers
    before = unit_error(unit, data)
    initial = [q.scale.item() for q in quantizers]
    if not quantizers or settings.iterations == 0:
        return Errors(before, before)
    scales = [q.scale.requires_grad_() for q in quantizers]
    optimizer = torch.optim.Adam(scales, settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.iterations)
    for _ in range(settings.iterations):
        (args, kwargs), target = data.sample(settings.batch_size, generator)
        optimizer.zero_grad()
        channel_loss(unit.module(*args, **kwargs), target).backward()
        optimizer.step()
        schedule.step()
        _keep_positive(quantizers, initial)
    for scale in scales:
        scale.requires_grad_(False)
    errors = Errors(before, unit_error(unit, data))
    if not errors.improved:
        for scale, value in zip(scales, initial, strict=True):
            scale.fill_(value)
    return errors


@torch.no_grad()
def _keep_positive(quantizers: list[StepQuantizer], initial: list[float]) -> None:
    """A step may shrink to a hundredth of where it began, never through zero."""
    for quantizer, value in zip(quantizers, initial, strict=True):
        quantizer.scale.clamp_(min=value / 100)
