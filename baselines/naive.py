"""Naive post-training quantization: min-max ranges, nearest rounding, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qvd.methods.base import CalibrationPlan, PTQMethod
from qvd.options.rules import SiteBits

if TYPE_CHECKING:
    from torch import nn

    from qvd.calibration.calibration_set import CalibrationSet
    from qvd.calibration.observers import Ranges
    from qvd.methods.base import QuantizationContext
    from qvd.models.base import BoundaryLayers
    from qvd.options.bits import Bits
    from qvd.spec.quantization import Quantization


@dataclass(frozen=True)
class Naive(PTQMethod):
    """Per-channel min-max weights, per-tensor static min-max activations; embedders and the final layer in FP."""

    name: str = "naive"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=10, num_steps=10))

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        named = {"embedder": boundary.embedders, "last layer": boundary.last}
        return {name: SiteBits(None, None, rule) for rule, names in named.items() for name in names}

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        return self.assemble(denoiser, ranges, self.site_bits(denoiser, context), {}, {})
