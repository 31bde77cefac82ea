"""PTQ4DM (Shang et al. 2023, arXiv 2211.15736): normally distributed timestep calibration (NDTC), symmetric quantizers.

Weights per output channel and activations per tensor are symmetric; every threshold is the best of 100 (p = 2.4), for
activations found batch by batch and averaged as 0.9·old + 0.1·new (released code). First and last layer at 8 bits, no
learned rounding; SiLU and softmax are computed in floating point (§3.1). NDTC is §3.3: one t per sample, N = 1024.

`variant=paper`: std √(T/2), mean `calibration.ndtc_mean`·T, of which the paper only says ≤ T/2. `variant=released`:
mean and std 0.4·T, as in the released script. Each entry bears the timestep of its call: index k of a descending loop
has timestep T - 1 - k.

Deviations: Conv3d and both operands of each attention matmul are quantized too (the source knows neither); inputs that
are never negative, such as the probabilities, get the unsigned grid [0, max], one bit finer than a signed one, and the
probabilities 8 bits (`softmax_bits`); batches mix timesteps at random, so that no timestep has the last word in the
averages; a drawn t is captured at the sampler's nearest step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from baselines.options import PTQ4DMOptions
from qvd.algorithms.layerwise import LayerChoice, quantize_layer
from qvd.algorithms.reduction import AveragedRange
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.anatomy import BoundaryLayers
from qvd.graph.hooks import attention_operands_to, layer_inputs_to
from qvd.graph.sites import weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.numerics.grids import AffineGrid
from qvd.options.bits import Bits
from qvd.spec.quantization import Quantization
from qvd.spec.rules import SiteBits, exceptions_at

BOUNDARY_BITS = 8


class PTQ4DM(PTQ4DMOptions, PTQMethod):
    """PTQ4DM; see the head of this file."""

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """First and last layer at 8 bits."""
        return exceptions_at(bits.at_least(BOUNDARY_BITS), boundary.ends)

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        plan = self.site_bits(denoiser, context)
        grids = self._averaged_grids(denoiser, plan, calibration, context)
        layers = {
            name: quantize_layer(
                name, layer, plan[name], ranges[name], self.settings, LayerChoice(grid=grids.get(name))
            )
            for name, layer in weighted_layers(denoiser).items()
        }
        plain = self.assemble(denoiser, ranges, plan, layers, {})
        operands = {site: replace(operand, grid=grids.get(site)) for site, operand in plain.operands.items()}
        return replace(plain, operands=operands)

    def _averaged_grids(
        self,
        denoiser: nn.Module,
        plan: Mapping[str, SiteBits],
        calibration: CalibrationSet,
        context: QuantizationContext,
    ) -> dict[str, AffineGrid]:
        """The grid of every quantized input: the running average over batches of each batch's best threshold."""
        averages = {
            site: AveragedRange(bits.activation, self.settings, self.momentum)
            for site, bits in plan.items()
            if bits.activation is not None
        }
        layers = weighted_layers(denoiser)
        layer_sinks = {site: a.update for site, a in averages.items() if site in layers}
        operand_sinks = {site: a.update for site, a in averages.items() if site not in layers}
        order = torch.randperm(len(calibration), generator=torch.Generator().manual_seed(self.seed)).tolist()
        batches = calibration.batches_of(order, self.batch_size)
        with (
            torch.inference_mode(),
            layer_inputs_to(denoiser, layer_sinks),
            attention_operands_to(denoiser, operand_sinks),
        ):
            for batch in context.progress(batches if averages else [], "averaging thresholds"):
                denoiser(**batch)
        return {site: average.grid for site, average in averages.items()}
