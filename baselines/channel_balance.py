"""What the methods share that balance channels: every layer that can be is, by SmoothQuant's scales."""

from __future__ import annotations

from torch import nn

from baselines.options import ChannelBalanceOptions
from qvd.algorithms.balance import balance, can_be_balanced
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.absorb import absorbing_norms
from qvd.graph.sites import weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.spec.quantization import Quantization


class ChannelBalance(ChannelBalanceOptions, PTQMethod):
    """Base of SmoothQuant and ViDiT-Q: `qvd.algorithms.balance` with migration strength `alpha`."""

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        plan, layers = self.site_bits(denoiser, context), weighted_layers(denoiser)
        names = [name for name, layer in layers.items() if can_be_balanced(layer, plan[name])]
        absorbing = absorbing_norms(denoiser, calibration.take([0]))
        balanced = balance(names, layers, plan, ranges, absorbing, self.alpha, self.settings)
        return self.assemble(denoiser, ranges, plan, balanced, {})
