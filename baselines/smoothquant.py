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

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qvd.methods.base import CalibrationPlan, PTQMethod
from qvd.options.rules import RangeMethod, SiteBits

if TYPE_CHECKING:
    from torch import nn

    from qvd.algorithms.layerwise import LayerSettings
    from qvd.calibration.calibration_set import CalibrationSet
    from qvd.calibration.observers import Ranges
    from qvd.methods.base import QuantizationContext
    from qvd.models.base import BoundaryLayers
    from qvd.options.bits import Bits
    from qvd.spec.quantization import Quantization

BOUNDARY_WEIGHT_BITS = 8


@dataclass(frozen=True)
class SmoothQuant(PTQMethod):
    """SmoothQuant; see the head of this file.

    Attributes:
        alpha: migration strength in [0, 1]: 0 leaves all difficulty to the weights' own scale, 1 moves all of the
            activations' into them.
        symmetric: absmax quantizers as in the source; false: asymmetric ones.
    """

    name: str = "smoothquant"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=64, num_steps=10))
    alpha: float = 0.5
    symmetric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"quantizer.alpha={self.alpha}: must be in [0, 1]")
        if self.activation_range is not RangeMethod.minmax:
            raise ValueError(
                f"quantizer.activation_range={self.activation_range.value}: "
                "must be minmax, the extremes that channels are balanced by"
            )

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
        from qvd.algorithms.balance import balance, can_be_balanced
        from qvd.graph.absorb import absorbing_norms
        from qvd.graph.sites import weighted_layers

        plan, layers = self.site_bits(denoiser, context), weighted_layers(denoiser)
        names = [name for name, layer in layers.items() if can_be_balanced(layer, plan[name])]
        absorbing = absorbing_norms(denoiser, calibration.take([0]))
        balanced = balance(names, layers, plan, ranges, absorbing, self.alpha, self.settings)
        return self.assemble(denoiser, ranges, plan, balanced, {})
