"""TFMQ-DM (Huang et al. 2024, arXiv 2311.16503): temporal features kept apart from everything else.

Temporal Information Block (§4.2): the time embedding and every projection of it, learned on the sampler's whole finite
timestep set and on nothing else (TIAR); these weights then stay as they are while the other blocks are reconstructed.
Finite Set Calibration (§4.3): the block's activations have one min-max range per timestep. Everything else is the block
reconstruction of BRECQ and Q-Diffusion that it builds on, here that of `baselines.qdiffusion`, without LSQ.

Deviations: the source learns the block's weights under one loss, the summed error of all projections; here each layer
is learned in Gram form on all timesteps, embedding first, inputs from the layers already learned and targets from the
floating-point model, so that every projection makes up for the embedding's remaining error; the better of before and
after is kept per layer. Where features depend on a class too (Latte's released class models), a range per timestep
spans the classes. See `baselines.qdiffusion` for what holds for the other blocks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from baselines.options import TFMQOptions
from baselines.qdiffusion import QDiffusion, rounded_model
from qvd.algorithms.reconstruction.engine import Task, bias_corrections
from qvd.algorithms.reconstruction.gram import adaround_layer
from qvd.backends.convert import replace_modules_
from qvd.backends.simulated import SIMULATION
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.anatomy import Anatomy
from qvd.graph.hooks import layer_inputs_to
from qvd.graph.sites import weighted_layers
from qvd.methods.base import QuantizationContext
from qvd.numerics.affine import affine_parameters
from qvd.numerics.grids import TimestepGrid
from qvd.spec.quantization import Notes, Quantization
from qvd.spec.rules import SiteBits


class TFMQ(TFMQOptions, QDiffusion):
    """TFMQ-DM; see the head of this file."""

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        quantization = super().quantize(denoiser, ranges, calibration, context)
        if context.bits.activation is None or not self.timestep_ranges:
            return quantization
        return self._timestep_grids(denoiser, quantization, self.site_bits(denoiser, context), context)

    def _frozen(self, anatomy: Anatomy) -> frozenset[str]:
        return frozenset(temporal_block(anatomy))

    def _learned_weights(
        self, task: Task, quantization: Quantization, corrected: Ranges | None, context: QuantizationContext
    ) -> Quantization:
        if self.temporal_rounding:
            quantization = self._learned_block(task.denoiser, quantization, corrected, context)
        return super()._learned_weights(task, quantization, corrected, context)

    def _learned_block(
        self, denoiser: nn.Module, quantization: Quantization, corrected: Ranges | None, context: QuantizationContext
    ) -> Quantization:
        """The weights of the Temporal Information Block, learned layer after layer over all timesteps."""
        block = temporal_block(context.anatomy)
        corrections = {} if corrected is None else bias_corrections(quantization, corrected)
        originals, layers = weighted_layers(denoiser), dict(quantization.layers)
        exact = block_inputs(denoiser, block, context)
        rounded = rounded_model(denoiser, replace(quantization, layers={name: layers[name] for name in block}))
        for name in context.progress([n for n in block if layers[n].weight is not None], "temporal information block"):
            inputs = block_inputs(rounded, [name], context)[name]
            original = copy.deepcopy(originals[name]).float()
            target = original(exact[name]).detach()
            learned, errors = adaround_layer(
                original, layers[name], inputs, self.adaround, target, corrections.get(name)
            )
            replace_modules_(rounded, {name: SIMULATION.layer(originals[name], learned)})
            notes: Notes = {"temporal_error_before": errors.before, "temporal_error_after": errors.after}
            layers[name] = replace(learned, notes=learned.notes | notes)
        return replace(quantization, layers=layers)

    def _timestep_grids(
        self,
        denoiser: nn.Module,
        quantization: Quantization,
        plan: Mapping[str, SiteBits],
        context: QuantizationContext,
    ) -> Quantization:
        """`quantization` with a min-max grid per timestep for every quantized input in the block."""
        block = temporal_block(context.anatomy)
        timesteps = tuple(context.timesteps.double().tolist())
        weights = replace(quantization, layers={n: quantization.layers[n] for n in block})
        inputs = block_inputs(rounded_model(denoiser, weights), block, context)
        layers = dict(quantization.layers)
        for name in block:
            bits = plan[name].activation
            if bits is not None:
                # Rows come class after class, each with all timesteps, where there are classes.
                rows = inputs[name].cpu().unflatten(0, (-1, len(timesteps)))
                scale, zero_point = affine_parameters(rows.amin((0, 2)), rows.amax((0, 2)), bits)
                grid = TimestepGrid(bits, tuple(scale.tolist()), tuple(zero_point.tolist()), timesteps)
                layers[name] = replace(layers[name], grid=grid)
        return replace(quantization, layers=layers)


def temporal_block(anatomy: Anatomy) -> list[str]:
    """The layers of the Temporal Information Block, embedding first."""
    return list(dict.fromkeys([*anatomy.boundary.embedders, *anatomy.temporal_sites]))


def block_inputs(denoiser: nn.Module, names: Sequence[str], context: QuantizationContext) -> dict[str, Tensor]:
    """Input (n_timesteps, channels) of layers of the block at every timestep of the sampler."""
    embedders = [n for n in names if n in context.anatomy.boundary.embedders]
    seen: dict[str, Tensor] = {}
    sinks = {name: partial(seen.__setitem__, name) for name in embedders}
    with torch.no_grad(), layer_inputs_to(denoiser, sinks):
        features = context.temporal_features(denoiser, context.timesteps)
    return {name: (seen[name] if name in seen else features[name]).float() for name in names}
