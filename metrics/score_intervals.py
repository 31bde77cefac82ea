"""Intervals of what sums up per-video scores: means, by the bootstrap (Efron 1979); shares and medians, by counts."""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from metrics.intervals import resampling_counts


def bootstrap_mean_interval(
    scores: Tensor, level: float = 0.95, replicates: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """`mean_intervals` of one set of scores.

    Args:
        scores: (N,), one value per video.
        level, replicates, seed: as there.

    Returns:
        (low, high).

    Raises:
        ValueError: fewer than 2 scores.
    """
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"an interval needs one score per video of at least 2 videos, got shape {tuple(scores.shape)}")
    low, high = mean_intervals(scores[None], level, replicates, seed)[0].tolist()
    return low, high


def mean_intervals(scores: Tensor, level: float = 0.95, replicates: int = 2000, seed: int = 0) -> Tensor:
    """Studentized bootstrap intervals ("bootstrap-t", Efron & Tibshirani 1993, §12.5) for means over videos.

    Each resampled mean is measured in its own standard errors. For N = 8 videos the interval covers the mean of
    Gaussian scores in 94 % of runs, where quantiles of the resampled means cover it in 88 %; of log-normal scores of
    σ = 1 in 91 % and 80 %, at N = 128 in 93 % and 92 % (tests/metrics/test_coverage.py).

    Args:
        scores: (K, N), K kinds of scores of the same N ≥ 2 videos, which are resampled together.
        level: coverage, between 0 and 1.
        replicates: number of resamplings.
        seed: of the resampling.

    Returns:
        float64 (K, 2), low and high; both are the mean where all scores are equal.
    """
    x, n = scores.double().cpu(), scores.shape[1]
    mean, deviations = x.mean(1, keepdim=True), x - x.mean(1, keepdim=True)
    shares = resampling_counts(n, replicates, seed).T / n
    shift = deviations @ shares
    variance = deviations.square() @ shares - shift.square()
    error = x.std(1, keepdim=True) / n**0.5
    has_spread = variance > torch.finfo(torch.float64).eps * x.var(1, keepdim=True)  # else it has no unit to measure in
    studentized = torch.where(has_spread, shift / (variance.clamp_min(0) / (n - 1)).sqrt(), torch.nan)
    ends = torch.tensor([(1 + level) / 2, (1 - level) / 2], dtype=torch.float64)
    return mean - error * studentized.nanquantile(ends, dim=1).T.nan_to_num(0)


def share_interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of `n` videos: inside [0, 1], and with a width at 0 and 1."""
    z = float(stats.norm.ppf((1 + level) / 2))
    centre, spread = share + z**2 / (2 * n), z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return (centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)


def median_interval(scores: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval for the median between two of the scores, by the binomial distribution: right for every distribution.

    Args:
        scores: (N,), N ≥ 6; fewer have no two that hold the median in 95 % of runs.
        level: coverage, which is at least this.

    Returns:
        (low, high).
    """
    found = stats.quantile_test(scores.double().cpu().numpy(), p=0.5).confidence_interval(level)
    return float(found.low), float(found.high)
