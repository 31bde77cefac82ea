"""The floating-point arm: the reference that every other arm is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qvd.methods.base import CalibrationPlan, PTQMethod

if TYPE_CHECKING:
    from torch import nn

    from qvd.calibration.calibration_set import CalibrationSet
    from qvd.calibration.observers import Ranges
    from qvd.methods.base import QuantizationContext
    from qvd.spec.quantization import Quantization


@dataclass(frozen=True)
class FloatingPoint(PTQMethod):
    """No quantization at all, whatever the bits."""

    name: str = "fp"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=1, num_steps=1))

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        from qvd.spec.quantization import Quantization

        return Quantization({}, {})
