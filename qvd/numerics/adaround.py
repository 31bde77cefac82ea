"""AdaRound: the rounding of a weight as something that can be learned (Nagel et al. 2020, arXiv 2004.10568, §3.2-3.3).

ŵ = Δ·(clamp(⌊w/Δ⌋ + h + z, 0, 2^b - 1) - z) with h = clamp(1.2σ(α) - 0.1, 0, 1), one α per weight. Learning starts at
h = frac(w/Δ), where ŵ = w up to clipping, and ends with h = [α ≥ 0], where ŵ is a level of the quantizer.
All functions are elementwise; scale and zero_point broadcast against the weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1


def rounding_up(alpha: Tensor) -> Tensor:
    """h in [0, 1], the share of a step by which each weight is rounded up."""
    return (torch.sigmoid(alpha) * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0, 1)


def initial_alpha(weight: Tensor, scale: Tensor) -> Tensor:
    """α with h(α) = frac(w/Δ)."""
    ratio = weight / scale
    fraction = ratio - ratio.floor()
    return -torch.log((STRETCH_HIGH - STRETCH_LOW) / (fraction - STRETCH_LOW) - 1)


def soft_codes(weight: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int, up: Tensor) -> Tensor:
    """clamp(⌊w/Δ⌋ + up + z, 0, 2^b - 1); `up` is h, or [α ≥ 0] for the final integer codes."""
    return ((weight / scale).floor() + up + zero_point).clamp(0, 2**n_bits - 1)


def hard_codes(weight: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int, alpha: Tensor) -> Tensor:
    """The integer codes that a learned α stands for."""
    return soft_codes(weight, scale, zero_point, n_bits, (alpha >= 0).to(weight.dtype))


def regularizer(up: Tensor, beta: float) -> Tensor:
    """Σ(1 - |2h - 1|^β), which drives every h to 0 or 1 as β falls."""
    return (1 - (2 * up - 1).abs().pow(beta)).sum()


def annealed_beta(iteration: int, iterations: int, warmup: float, start: float, end: float) -> float | None:
    """β of an iteration: None (no regularizer) for the first `warmup` share, then from `start` to `end` linearly."""
    first = warmup * iterations
    if iteration < first:
        return None
    return end + (start - end) * max(0.0, 1 - (iteration - first) / (iterations - first))
