"""Q-Diffusion (Li et al. 2023, arXiv 2302.04304): timestep-aware calibration, block reconstruction, split shortcuts.

In its order: (1) weight ranges by the lp search ("mse" in the released code, p = 2.4), per output channel, asymmetric;
(2) AdaRound of residual and transformer blocks, every other layer alone, one after the other, inputs from the
weight-quantized model and targets from the floating-point one (§3.2, as in BRECQ); (3) static per-tensor activation
ranges by the lp search on the weight-quantized model, or running min-max (EMA 0.95) with `running_stat`; (4) LSQ of
the activation scales, unit after unit. A convolution that reads a U-Net's skip concatenation has two quantizers, for
weights and activations alike (§3.3). Softmax probabilities are unsigned and have `softmax_bits` (8; 16 for Stable
Diffusion). No layer stays in floating point. Calibration: inputs of the FP sampler at every ⌊T/st⌋-th step, both
guidance halves (§3.2).

Settings of the paper and the released scripts: calibration 256 × 20 (CIFAR), 128 × 25 (Stable Diffusion); AdaRound
20,000 steps at learning rate 1e-3, batch 32 (8 for Stable Diffusion); LSQ 5,000 steps. They are config values; the
default steps are fewer with a larger learning rate, for models that are quantized in minutes.

Deviations: Conv3d is quantized, and TemporalConvLayer (four convolutions around a residual) counts as a residual block;
single layers are learned in Gram form, on all data at once, and their roundings then settled by coordinate descent
(`adaround.sweeps`); after each unit the better of before and after is kept; the loss sums channels also where the
released code sums tokens; the regularizer covers both halves of split weights; the search for activation ranges sees
all timesteps, and running ranges see them in random order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from baselines.options import QDiffusionOptions
from qvd.algorithms.layerwise import LayerChoice, LayerSettings, activation_grid, quantize_layer
from qvd.algorithms.reconstruction.engine import Task, reconstruct_rounding, reconstruct_steps
from qvd.backends.convert import convert
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import HistogramObserver, Ranges
from qvd.graph.anatomy import Anatomy
from qvd.graph.hooks import attention_operands_to, layer_inputs_to
from qvd.graph.sites import channel_dim, weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.numerics.affine import affine_parameters, symmetric_parameters
from qvd.numerics.grids import AffineGrid, SplitGrid
from qvd.spec.quantization import OperandQuantization, Quantization
from qvd.spec.rules import SiteBits


class QDiffusion(QDiffusionOptions, PTQMethod):
    """Q-Diffusion; see the head of this file."""

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        plan = self.site_bits(denoiser, context)
        splits = context.anatomy.shortcuts if self.split_shortcuts else {}
        units = context.anatomy.blocks[self.reconstruction]
        task = Task(
            denoiser, calibration, units, context.checkpoint, context.progress, self.seed, self._frozen(context.anatomy)
        )
        quantization = self._quantized_weights(denoiser, ranges, plan, splits)
        corrected = ranges if self.bias_correction else None
        quantization = self._learned_weights(task, quantization, corrected, context)
        if all(bits.activation is None for bits in plan.values()):
            return quantization
        quantization = self._quantized_activations(task, quantization, plan, splits)
        return reconstruct_steps(task, quantization, self.lsq)

    def _frozen(self, anatomy: Anatomy) -> frozenset[str]:
        """Layers that are not learned with their blocks."""
        return frozenset()

    def _learned_weights(
        self, task: Task, quantization: Quantization, corrected: Ranges | None, context: QuantizationContext
    ) -> Quantization:
        """`quantization` with learned roundings; `corrected`: see `reconstruct_rounding`."""
        if context.bits.weight is None:
            return quantization
        return reconstruct_rounding(task, quantization, self.adaround, corrected)

    def _quantized_weights(
        self, denoiser: nn.Module, ranges: Ranges, plan: Mapping[str, SiteBits], splits: Mapping[str, int]
    ) -> Quantization:
        """Weights rounded to nearest, activations in floating point."""
        layers = {}
        for name, layer in weighted_layers(denoiser).items():
            bits, choice = replace(plan[name], activation=None), LayerChoice(split=splits.get(name))
            layers[name] = quantize_layer(name, layer, bits, ranges[name], self.settings, choice)
        return Quantization(layers, {})

    def _quantized_activations(
        self, task: Task, weights: Quantization, plan: Mapping[str, SiteBits], splits: Mapping[str, int]
    ) -> Quantization:
        """`weights` with input and operand grids found on the weight-quantized model."""
        modules = weighted_layers(task.denoiser)
        watches: dict[str, PartWatch | SplitWatch] = {}
        for site, bits in plan.items():
            if bits.activation is not None:
                part = partial(PartWatch, bits.activation, self.settings, self.momentum if self.running_stat else None)
                watches[site] = (
                    SplitWatch(part(), part(), splits[site], channel_dim(modules[site])) if site in splits else part()
                )
        self._observe(task, weights, watches)
        grids = {site: watch.grid for site, watch in watches.items()}
        layers = {name: replace(layer, grid=grids.get(name)) for name, layer in weights.layers.items()}
        operands = {
            site: OperandQuantization(site, f"attention.{site.rsplit('.', 1)[1]}", bits.rule, grids.get(site))
            for site, bits in plan.items()
            if site not in modules
        }
        return replace(weights, layers=layers, operands=operands)

    def _observe(self, task: Task, weights: Quantization, watches: Mapping[str, PartWatch | SplitWatch]) -> None:
        """Show every watch its site's activations in the weight-quantized model, entries in random order."""
        model, layers = rounded_model(task.denoiser, weights), weighted_layers(task.denoiser)
        layer_sinks = {site: watch.update for site, watch in watches.items() if site in layers}
        operand_sinks = {site: watch.update for site, watch in watches.items() if site not in layers}
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(task.calibration), generator=generator).tolist()
        batches = task.calibration.batches_of(order, self.batch_size)
        with (
            torch.inference_mode(),
            layer_inputs_to(model, layer_sinks),
            attention_operands_to(model, operand_sinks),
        ):
            for batch in task.progress(batches, "observing the weight-quantized model"):
                model(**batch)


class PartWatch:
    """Collects what the grid of one activation, or of one half of it, is chosen from.

    Args:
        n_bits: of the grid.
        settings: how the range search goes.
        momentum: None: the search, on a streamed histogram; else the running min-max.
    """

    def __init__(self, n_bits: int, settings: LayerSettings, momentum: float | None) -> None:
        self.n_bits, self.settings = n_bits, settings
        self.observer = HistogramObserver(None) if momentum is None else None
        self.extremes = RunningExtremes(momentum or 0.0)

    def update(self, x: Tensor) -> None:
        """Take in one batch."""
        if self.observer is not None:
            self.observer.update(x)
        else:
            self.extremes.update(x.min().item(), x.max().item())

    @property
    def grid(self) -> AffineGrid:
        """The grid for everything seen."""
        if self.observer is not None:
            return activation_grid(self.observer.result(), self.n_bits, self.settings)
        low, high = torch.tensor(self.extremes.low), torch.tensor(self.extremes.high)
        if self.settings.symmetric_on(low.item(), high.item()):
            scale, zero_point = symmetric_parameters(torch.maximum(-low, high), self.n_bits)
        else:
            scale, zero_point = affine_parameters(low, high, self.n_bits)
        return AffineGrid(self.n_bits, scale.item(), zero_point.item())


@dataclass(frozen=True)
class SplitWatch:
    """Two watches, for the channels before and from `channel` on."""

    first: PartWatch
    skip: PartWatch
    channel: int
    channel_dim: int

    def update(self, x: Tensor) -> None:
        """Take in one batch."""
        first, skip = x.split((self.channel, x.shape[self.channel_dim] - self.channel), self.channel_dim)
        self.first.update(first)
        self.skip.update(skip)

    @property
    def grid(self) -> SplitGrid:
        """The two grids as one."""
        first, skip = self.first.grid, self.skip.grid
        return SplitGrid(
            first.n_bits,
            self.channel,
            self.channel_dim,
            first.scale,
            first.zero_point,
            skip.scale,
            skip.zero_point,
        )


@dataclass
class RunningExtremes:
    """low ← m·low + (1 - m)·(the batch's minimum), and high likewise; the first batch starts them."""

    momentum: float
    low: float | None = None
    high: float | None = None

    def update(self, low: float, high: float) -> None:
        """Take in one batch's minimum and maximum."""
        if self.low is None or self.high is None:
            self.low, self.high = low, high
            return
        self.low = self.momentum * self.low + (1 - self.momentum) * low
        self.high = self.momentum * self.high + (1 - self.momentum) * high


def rounded_model(denoiser: nn.Module, weights: Quantization) -> nn.Module:
    """The denoiser with its weights quantized and its activations in floating point, so that they can be watched."""
    layers = {name: replace(layer, grid=None) for name, layer in weights.layers.items()}
    return convert(denoiser, Quantization(layers, {}))
