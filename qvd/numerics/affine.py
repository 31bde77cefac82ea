"""Affine (uniform) quantization, the maths every other file rests on.

Source: Jacob et al. 2018 (arXiv 1712.05877) §2.1; the rounding order x̂ = Δ·(clamp(round(x/Δ) + z) - z) is that of
Q-Diffusion (arXiv 2302.04304). A symmetric quantizer is the affine one with z = 2^(b-1): its centred codes
q - z run over [-2^(b-1), 2^(b-1) - 1], so that one pair (scale, zero_point) describes both.
"""

from __future__ import annotations

import torch
from torch import Tensor


def affine_parameters(low: Tensor, high: Tensor, n_bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of the asymmetric quantizer on [low, high], widened to contain 0.

    Args:
        low, high: float tensors of one shape (a scalar, one entry per channel, or candidates × channels).
        n_bits: total bits b.

    Returns:
        (scale, zero_point), float, shaped like `low`: Δ = (high - low)/(2^b - 1), z = round(-low/Δ) in [0, 2^b - 1].
        An empty range (an all-zero tensor, e.g. a zero-initialised convolution) gets Δ = 1, z = 0.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    span = high - low
    scale = torch.where(span > 0, span / (2**n_bits - 1), torch.ones_like(span))
    # A denormal span underflows in the division; it is as good as empty.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale, torch.round(-low / scale)


def symmetric_parameters(absmax: Tensor, n_bits: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of the symmetric quantizer: Δ = absmax/(2^(b-1) - 1), z = 2^(b-1)."""
    scale = absmax / (2 ** (n_bits - 1) - 1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale, torch.full_like(scale, 2 ** (n_bits - 1))


def quantize(x: Tensor, scale: Tensor | float, zero_point: Tensor | float, n_bits: int) -> Tensor:
    """Integer codes of `x` as floats in [0, 2^b - 1]; `scale` and `zero_point` broadcast against `x`."""
    return torch.clamp(torch.round(x / scale) + zero_point, 0, 2**n_bits - 1)


def dequantize(codes: Tensor, scale: Tensor | float, zero_point: Tensor | float) -> Tensor:
    """Values of codes: Δ·(q - z)."""
    return (codes - zero_point) * scale


def fake_quantize(x: Tensor, scale: Tensor | float, zero_point: Tensor | float, n_bits: int) -> Tensor:
    """`dequantize(quantize(x))`: the nearest representable value."""
    return dequantize(quantize(x, scale, zero_point, n_bits), scale, zero_point)
