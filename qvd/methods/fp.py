"""The floating-point arm: the reference that every other arm is compared with."""

from __future__ import annotations

from torch import nn

from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.options.method import FloatingPointOptions
from qvd.spec.quantization import Quantization


class FloatingPoint(FloatingPointOptions, PTQMethod):
    """No quantization at all, whatever the bits."""

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        return Quantization({}, {})
