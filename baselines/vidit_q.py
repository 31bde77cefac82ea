"""ViDiT-Q (Zhao et al. 2024, arXiv 2406.02540): dynamic activations per token, and balanced channels.

§3: weights per output channel and activations per token, asymmetric min-max, activation ranges taken at run time; the
scaling-based ("static") channel balance is SmoothQuant's with migration strength α. Embedders, first and last layer and
the attention matmuls stay in floating point, as in its released configs.

Deviations: α = 0.5 is ours (its value per model is a setting of the released configs). The rotation ("dynamic") part of
its balance and its mixed-precision search are left out: all arms have the same bits everywhere. One scale serves all
timesteps: one per timestep would mean one quantized weight per timestep, and a token's own range already follows the
timestep. The source knows no convolutions: there a "token" is one frame or clip, the finest unit whose scale leaves the
convolution's sum. Without `float_attention` the matmuls' operands are quantized too: q and k per token and head, v per
head, probabilities per query at `softmax_bits`.
"""

from __future__ import annotations

from torch import nn

from baselines.options import ViDiTQOptions
from qvd.algorithms.balance import balance, can_be_balanced
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.absorb import absorbing_norms
from qvd.graph.anatomy import BoundaryLayers
from qvd.graph.sites import operand_sites, weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.options.bits import Bits
from qvd.spec.quantization import Quantization
from qvd.spec.rules import SiteBits


class ViDiTQ(ViDiTQOptions, PTQMethod):
    """ViDiT-Q without its rotation and mixed precision; see the head of this file."""

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """Embedders, first and last layer in floating point."""
        named = {"embedder": boundary.embedders, "first layer": boundary.first, "last layer": boundary.last}
        return {name: SiteBits(None, None, rule) for rule, names in named.items() for name in names}

    def site_bits(self, denoiser: nn.Module, context: QuantizationContext) -> dict[str, SiteBits]:
        """As for every method, but attention operands in floating point unless the user's rules name them."""
        plan = super().site_bits(denoiser, context)
        if self.float_attention:
            free = [site for site in operand_sites(denoiser) if plan[site].rule == "default"]
            plan |= dict.fromkeys(free, SiteBits(None, None, "attention matmul"))
        return plan

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        plan, layers = self.site_bits(denoiser, context), weighted_layers(denoiser)
        names = [name for name, layer in layers.items() if can_be_balanced(layer, plan[name])]
        absorbing = absorbing_norms(denoiser, calibration.take([0]))
        balanced = balance(names, layers, plan, ranges, absorbing, self.alpha, self.settings)
        return self.assemble(denoiser, ranges, plan, balanced, {})
