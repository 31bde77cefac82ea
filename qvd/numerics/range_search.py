"""Choosing the clipping range of a quantizer: min-max, or the lp search over shrunken ranges.

The search ("mse" in Q-Diffusion's code, arXiv 2302.04304, and PTQ4DM's, arXiv 2211.15736): scale (min, max) by
1 - 0.01·i, i = 0…79, and keep the candidate with the least mean |x - x̂|^p, p = 2.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvd.numerics.affine import affine_parameters, fake_quantize, symmetric_parameters
from qvd.numerics.lp_search import least_error
from qvd.options.rules import RangeMethod

NUM_CANDIDATES = 80
SHRINK_STEP = 0.01


def _parameters(low: Tensor, high: Tensor, n_bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    if symmetric:
        return symmetric_parameters(torch.maximum(-low, high), n_bits)
    return affine_parameters(low, high, n_bits)


def shrink_factors(num_candidates: int = NUM_CANDIDATES) -> Tensor:
    """Factors 1, 0.99, …, 0.21 (80 of them), or `num_candidates` spread evenly over the same span."""
    stride = NUM_CANDIDATES / num_candidates
    return 1.0 - SHRINK_STEP * torch.arange(num_candidates, dtype=torch.float32) * stride


def thresholds(count: int) -> Tensor:
    """Factors 1, 0.99, … of a search over `count` thresholds, at most 100 (PTQ4DM's)."""
    return 1.0 - SHRINK_STEP * torch.arange(count, dtype=torch.float32)


def channel_parameters(
    weight: Tensor,
    n_bits: int,
    method: RangeMethod,
    *,
    symmetric: bool = False,
    p_norm: float = 2.4,
    factors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per-output-channel scale and zero point of a weight, each (channels,) float32.

    Args:
        weight: (channels, …) of any rank.
        method: `minmax`, or `lp`: all channels × candidates, see `qvd.numerics.lp_search`.
        factors: the candidates; None: the published 80.
    """
    rows = weight.detach().float().flatten(1)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    if method is RangeMethod.minmax:
        return _parameters(low, high, n_bits, symmetric)
    factors = (shrink_factors() if factors is None else factors).to(rows.device)[:, None]
    scale, zero_point = _parameters(low * factors, high * factors, n_bits, symmetric)
    index = least_error(rows, scale.T.contiguous(), zero_point.T.contiguous(), n_bits, p_norm)[None]
    return scale.gather(0, index)[0], zero_point.gather(0, index)[0]


def histogram_parameters(
    counts: Tensor,
    low: float,
    high: float,
    n_bits: int,
    method: RangeMethod,
    *,
    symmetric: bool = False,
    p_norm: float = 2.4,
    factors: Tensor | None = None,
) -> tuple[float, float]:
    """Per-tensor scale and zero point from a histogram.

    Args:
        counts: (bins,) float64, over [low, high], the exact minimum and maximum seen.
        factors: the candidates; None: the published 80.

    Returns:
        (scale, zero_point) as Python floats; the values of a bin stand at its centre.
    """
    bounds = torch.tensor([low, high], dtype=torch.float32)
    if method is RangeMethod.minmax:
        scale, zero_point = _parameters(bounds[0], bounds[1], n_bits, symmetric)
        return scale.item(), zero_point.item()
    factors = shrink_factors() if factors is None else factors
    # Ranges contain 0 before they shrink: a range that starts at 0.5 must not end up below its own data.
    scale, zero_point = _parameters(
        bounds[0].clamp(max=0) * factors, bounds[1].clamp(min=0) * factors, n_bits, symmetric
    )
    used = counts > 0
    step = (high - low) / counts.numel()
    centres = (low + step * (torch.arange(counts.numel(), dtype=torch.float64)[used] + 0.5)).float()
    error = fake_quantize(centres, scale[:, None], zero_point[:, None], n_bits).sub_(centres).abs_().pow_(p_norm)
    best = int((error @ counts[used].float()).argmin())
    return scale[best].item(), zero_point[best].item()
