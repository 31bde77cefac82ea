"""Naive post-training quantization: min-max ranges, nearest rounding, nothing else."""

from __future__ import annotations

from torch import nn

from baselines.options import NaiveOptions
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.anatomy import BoundaryLayers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.options.bits import FLOATING_POINT, Bits
from qvd.spec.quantization import Quantization
from qvd.spec.rules import SiteBits, exceptions_at


class Naive(NaiveOptions, PTQMethod):
    """Per-channel min-max weights, per-tensor static min-max activations; embedders and the final layer in FP."""

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        return exceptions_at(FLOATING_POINT, {"embedder": boundary.embedders, "last layer": boundary.last})

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        return self.assemble(denoiser, ranges, self.site_bits(denoiser, context), {}, {})
