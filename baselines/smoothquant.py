"""SmoothQuant (Xiao et al. 2023, arXiv 2211.10438): channel scales move the difficulty of activations into weights.

§4, eq. 3-4 with migration strength α = 0.5, calibrated on channel maxima; absmax symmetric quantizers and static
per-tensor activations are its O3 setting (Table 2). `activation_granularity=token` is its O1, dynamic.

Deviations: made for language models, where only the Linears behind a LayerNorm are smoothed; here every layer with a
quantized input is, convolutions and Conv3d too: where no norm can absorb the scale, the layer divides in its own
quantize step. Weights are per output channel (the source: per tensor), which is stronger. Inputs that are never
negative get the unsigned grid [0, max]. First and last layer keep 8-bit weights, as for the other methods; the source
has no such layers. Both attention matmuls are quantized as in the source, the probabilities at `softmax_bits`.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from baselines.options import SmoothQuantOptions
from qvd.algorithms.balance import balance, can_be_balanced
from qvd.algorithms.layerwise import LayerSettings
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.absorb import absorbing_norms
from qvd.graph.anatomy import BoundaryLayers
from qvd.graph.sites import weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.options.bits import Bits
from qvd.spec.quantization import Quantization
from qvd.spec.rules import SiteBits

BOUNDARY_WEIGHT_BITS = 8


class SmoothQuant(SmoothQuantOptions, PTQMethod):
    """SmoothQuant; see the head of this file."""

    @property
    def settings(self) -> LayerSettings:
        return replace(super().settings, symmetric_weights=self.symmetric, symmetric_activations=self.symmetric)

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """First and last layer keep 8-bit weights."""
        weight = bits.weight and max(bits.weight, BOUNDARY_WEIGHT_BITS)
        named = {"first layer": boundary.first, "last layer": boundary.last}
        return {name: SiteBits(weight, bits.activation, rule) for rule, names in named.items() for name in names}

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        plan, layers = self.site_bits(denoiser, context), weighted_layers(denoiser)
        names = [name for name, layer in layers.items() if can_be_balanced(layer, plan[name])]
        absorbing = absorbing_norms(denoiser, calibration.take([0]))
        balanced = balance(names, layers, plan, ranges, absorbing, self.alpha, self.settings)
        return self.assemble(denoiser, ranges, plan, balanced, {})
