"""The exact search for the clipping range with the least lp error, of many rows at once."""

from __future__ import annotations

import torch
from torch import Tensor

# Small enough for a core's own cache: memory, not arithmetic, is what the search would otherwise wait for.
MAX_ELEMENTS_AT_ONCE = 2**17
# The bounds that spare most of the search: values at each end and bins of a row, and from which length they pay.
TAIL, MIN_TAILED = 16, 256
NUM_BINS, MIN_BINNED = 1024, 4096
ROUNDING_SLACK = 1.001


def least_error(x: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int, p_norm: float) -> Tensor:
    """The first candidate with the least Σ|x - x̂|^p, for every row.

    Where rows are long, candidates that cannot be the best are ruled out first: by a row's largest and smallest values,
    which a short range clips, then on its histogram. The distance d(x) = |x - x̂| to the nearest
    level changes by no more than x does, so by Minkowski's inequality ‖d(x)‖_p lies within ‖x - c‖_p of ‖d(c)‖_p, c the
    centres of the bins. The rest is evaluated: the choice is the full search's.

    Args:
        x: (rows, n) float32.
        scale, zero_point: (rows, candidates).

    Returns:
        (rows,) int64.
    """
    everything = torch.ones_like(scale, dtype=torch.bool)
    offered = unclipped(x, scale, zero_point, n_bits, p_norm) if x.shape[1] >= MIN_TAILED else everything
    if x.shape[1] >= MIN_BINNED and p_norm >= 1:
        offered = contenders(offered, x, scale, zero_point, n_bits, p_norm)
    return _errors(offered, x, scale, zero_point, n_bits, p_norm).argmin(1)


def _errors(wanted: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int, p_norm: float) -> Tensor:
    """(rows, candidates): the mean of |x - x̂|^p where it is `wanted`, elsewhere infinity."""
    errors = torch.full(scale.shape, torch.inf, device=x.device)
    row, candidate = wanted.nonzero(as_tuple=True)
    for part in torch.arange(len(row), device=x.device).split(max(1, MAX_ELEMENTS_AT_ONCE // x.shape[1])):
        r, c = row[part], candidate[part]
        errors[r, c] = _distances(x[r], scale[r, c, None], zero_point[r, c, None], n_bits).pow_(p_norm).mean(-1)
    return errors


def unclipped(x: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int, p_norm: float) -> Tensor:
    """(rows, candidates) bool: whether a row's largest and smallest values alone leave a candidate a chance.

    Their share of the error is a lower bound. It has to stay below the error of one candidate that is likely to be
    good: the best if the rest of the row had the error of evenly spread values, (Δ/2)^p/(p + 1).
    """
    count = max(TAIL, x.shape[1] // 256)
    tails = torch.cat([x.topk(count, dim=1, largest=largest, sorted=False).values for largest in (True, False)], 1)
    least = torch.empty_like(scale)
    elements_per_row = scale.shape[1] * tails.shape[1]
    for part in torch.arange(len(x), device=x.device).split(max(1, MAX_ELEMENTS_AT_ONCE // elements_per_row)):
        d = _distances(tails[part, None], scale[part, :, None], zero_point[part, :, None], n_bits)
        least[part] = d.pow_(p_norm).sum(-1) / x.shape[1]
    likely = (least + (scale / 2) ** p_norm / (p_norm + 1)).argmin(1, keepdim=True)
    probe = torch.zeros_like(scale, dtype=torch.bool).scatter_(1, likely, True)
    reached = _errors(probe, x, scale, zero_point, n_bits, p_norm).gather(1, likely)
    return least <= reached * ROUNDING_SLACK


def contenders(offered: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int, p_norm: float) -> Tensor:
    """(rows, candidates) bool: those `offered` that the histogram's bound does not exclude; the rest as above."""
    centres, counts, slack = _histograms(x, p_norm)
    norms = torch.full_like(scale, torch.inf)
    row, candidate = offered.nonzero(as_tuple=True)
    for part in torch.arange(len(row), device=x.device).split(MAX_ELEMENTS_AT_ONCE // NUM_BINS):
        r, c = row[part], candidate[part]
        d = _distances(centres[r], scale[r, c, None], zero_point[r, c, None], n_bits).pow_(p_norm)
        norms[r, c] = d.mul_(counts[r]).sum(1) ** (1 / p_norm)
    return norms - slack <= norms.amin(1, keepdim=True) + slack


def _histograms(x: Tensor, p_norm: float) -> tuple[Tensor, Tensor, Tensor]:
    """Bin centres and counts of each row (rows, bins), and ‖x - c‖_p (rows, 1)."""
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    width = ((high - low) / NUM_BINS).clamp(min=1e-30)
    centres = low + (torch.arange(NUM_BINS, device=x.device) + 0.5) * width
    counts, slack = torch.empty_like(centres), torch.empty_like(low)
    for part in torch.arange(len(x), device=x.device).split(max(1, MAX_ELEMENTS_AT_ONCE // x.shape[1])):
        index = ((x[part] - low[part]) / width[part]).floor_().clamp_(max=NUM_BINS - 1)
        displacement = (index + 0.5).mul_(width[part]).add_(low[part]).sub_(x[part]).abs_()
        slack[part] = displacement.pow_(p_norm).sum(1, keepdim=True) ** (1 / p_norm) * ROUNDING_SLACK
        numbered = index.long() + torch.arange(len(part), device=x.device)[:, None] * NUM_BINS
        counts[part] = torch.bincount(numbered.flatten(), minlength=len(part) * NUM_BINS).view(len(part), -1).float()
    return centres, counts, slack


def _distances(x: Tensor, scale: Tensor, zero_point: Tensor, n_bits: int) -> Tensor:
    """|x - x̂| with one allocation: the candidates of a search are many."""
    codes = (x / scale).round_().add_(zero_point).clamp_(0, 2**n_bits - 1)
    return codes.sub_(zero_point).mul_(scale).sub_(x).abs_()
