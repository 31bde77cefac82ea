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

from baselines.channel_balance import ChannelBalance
from baselines.options import SmoothQuantOptions
from qvd.graph.anatomy import BoundaryLayers
from qvd.options.bits import Bits
from qvd.spec.rules import SiteBits, exceptions_at

BOUNDARY_WEIGHT_BITS = 8


class SmoothQuant(SmoothQuantOptions, ChannelBalance):
    """SmoothQuant; see the head of this file."""

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """First and last layer keep 8-bit weights."""
        weight = bits.at_least(BOUNDARY_WEIGHT_BITS).weight
        return exceptions_at(Bits(weight, bits.activation), boundary.ends)
