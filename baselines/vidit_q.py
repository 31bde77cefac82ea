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

from baselines.channel_balance import ChannelBalance
from baselines.options import ViDiTQOptions
from qvd.graph.anatomy import BoundaryLayers
from qvd.graph.sites import operand_sites
from qvd.methods.base import QuantizationContext
from qvd.options.bits import FLOATING_POINT, Bits
from qvd.spec.rules import SiteBits, exceptions_at


class ViDiTQ(ViDiTQOptions, ChannelBalance):
    """ViDiT-Q without its rotation and mixed precision; see the head of this file."""

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """Embedders, first and last layer in floating point."""
        return exceptions_at(FLOATING_POINT, {"embedder": boundary.embedders, **boundary.ends})

    def site_bits(self, denoiser: nn.Module, context: QuantizationContext) -> dict[str, SiteBits]:
        """As for every method, but attention operands in floating point unless the user's rules name them."""
        plan = super().site_bits(denoiser, context)
        if self.float_attention:
            free = [site for site in operand_sites(denoiser) if plan[site].rule == "default"]
            plan |= dict.fromkeys(free, SiteBits(None, None, "attention matmul"))
        return plan
