"""Bootstrap intervals (Efron 1979) of the Fréchet distance. Videos are resampled."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from metrics.frechet import (
    Features,
    FeatureStatistics,
    as_matrix,
    check_same_width,
    frechet_distance,
    frechet_infinity,
    matrix_sqrt,
    same_samples,
    sum_of_roots,
    trace_sqrt_from_covariances,
)


def bootstrap_interval(
    features: Features, reference: Features, level: float = 0.95, replicates: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Basic bootstrap interval for the expected Fréchet distance at this N.

    What is resampled: the rows (videos) of `features`, with replacement. The reference is held fixed, so its own
    sampling error is not in the interval; neither is the finite-N bias, for which see `frechet_infinity`. Replicates
    carry that bias twice, so their deviations are taken from their own mean m: [d − (q_hi − m), d − (q_lo − m)].

    Each replicate is exact. What all share is done once (the reference's square root, the transformed features, all
    means and traces as one product with the resampling counts), which leaves a small eigenvalue problem each.

    Args:
        features: (N, D).
        reference: (M, D).
        level: coverage, between 0 and 1.
        replicates: number of resamplings.
        seed: of the resampling.

    Returns:
        (low, high); [0, 0] for the same videos on both sides.
    """
    if same_samples(features, reference):
        return 0.0, 0.0
    replicate = bootstrap_distances(features, reference, replicates, seed)
    return _basic_interval(frechet_distance(features, reference), replicate, level)


def bootstrap_distances(features: Features, reference: Features, replicates: int = 500, seed: int = 0) -> Tensor:
    """Fréchet distances of `replicates` resamplings of `features` to the fixed `reference`; float64 (replicates,)."""
    x, y = as_matrix(features, minimum=2), FeatureStatistics.from_features(reference)
    check_same_width(x.shape[1], len(y.mean))
    n = len(x)
    x, offset = x - x.mean(0), x.mean(0) - y.mean
    counts = resampling_counts(n, replicates, seed)
    means = counts @ x / n
    traces = (counts @ x.square().sum(1) - n * means.square().sum(1)) / (n - 1)
    z = x @ matrix_sqrt(y.covariance)
    cross = torch.stack([sum_of_roots(_resampled_gram(z, w) / (n - 1)) for w in counts])
    return (means + offset).square().sum(1) + traces + y.covariance.trace() - 2 * cross


def paired_bootstrap_distances(features: Features, reference: Features, replicates: int = 500, seed: int = 0) -> Tensor:
    """Fréchet distances of resampled pairs; float64 (replicates,).

    Sets of one N are resampled alike, so replicate r of two arms is of the same videos.

    Args:
        features: (N, D).
        reference: (N, D); row i belongs to row i of `features`.
        replicates: number of resamplings.
        seed: of the resampling.

    Raises:
        ValueError: sides of different length.
    """
    x, y = as_matrix(features, minimum=2), as_matrix(reference, minimum=2)
    if x.shape != y.shape:
        raise ValueError(f"paired features must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if same_samples(x, y):
        return torch.zeros(replicates, dtype=torch.float64)
    return torch.stack([weighted_distance(x, y, w) for w in resampling_counts(len(x), replicates, seed)])


def log_interval(distance: float, replicate: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval for a Fréchet distance of pairs at this N, from `paired_bootstrap_distances`.

    Distances of quantized models span orders of magnitude, and fewer distinct pairs make each replicate larger, so the
    interval is d · exp(± z s), s the standard deviation of the replicates' logarithms (ours). It stays positive but
    where a replicate does not tell the sides apart: then it begins at 0.

    Where a twentieth of 128 videos make most of the distance, it covers the expected one in 95 % of runs, and quantiles
    of the replicates, relative to their mean, in 86 % (tests/metrics/test_coverage.py).
    """
    positive = replicate[replicate > 0]
    if len(positive) < 2:
        return 0.0, distance
    spread = float(stats.norm.ppf((1 + level) / 2) * positive.log().std())
    return distance * math.exp(-spread) if len(positive) == len(replicate) else 0.0, distance * math.exp(spread)


def paired_bootstrap_interval(
    features: Features, reference: Features, level: float = 0.95, replicates: int = 500, seed: int = 0
) -> tuple[float, float]:
    """`log_interval` of paired samples (same seeds and prompts on both sides), whose pairs are resampled.

    Resampling one side alone would count the prompts' variety as error, although both sides share it. The interval is
    for the distance expected at this N, not for its limit: where a few videos of a set make the distance, both are far
    apart (see `metrics.kernel` for what is unbiased).

    Args:
        features, reference, replicates, seed: as of `paired_bootstrap_distances`.
        level: coverage, between 0 and 1.

    Returns:
        (low, high).

    Raises:
        ValueError: sides of different length.
    """
    replicate = paired_bootstrap_distances(features, reference, replicates, seed)
    return log_interval(frechet_distance(features, reference), replicate, level)


def infinity_interval(
    features: Features,
    reference: Features,
    level: float = 0.95,
    replicates: int = 100,
    seed: int = 0,
    paired: bool = False,
) -> tuple[float, float]:
    """Basic bootstrap interval for FVD∞, see `metrics.frechet.frechet_infinity`.

    What is resampled: the rows (videos) of `features`, or with `paired` the pairs, and with them the random split into
    parts; an unpaired reference is held fixed. As in `bootstrap_interval`, deviations are taken from the replicates'
    own mean. A replicate averages two permutations where the value itself averages eight, so the interval errs on the
    wide side.

    Args:
        features: (N, D).
        reference: (M, D).
        level: coverage, between 0 and 1.
        replicates: number of resamplings; each costs a few full distances.
        seed: of the resampling.
        paired: row i of both sides belongs to the same prompt.

    Returns:
        (low, high); [0, 0] for the same videos on both sides.
    """
    x, y = as_matrix(features, minimum=4), as_matrix(reference, minimum=4)
    if same_samples(x, y):
        return 0.0, 0.0
    draws = torch.randint(len(x), (replicates, len(x)), generator=torch.Generator().manual_seed(seed))
    values = [
        frechet_infinity(x[rows], y[rows] if paired else y, repeats=2, seed=seed + i, paired=paired).value
        for i, rows in enumerate(draws)
    ]
    replicate = torch.tensor(values, dtype=torch.float64)
    return _basic_interval(frechet_infinity(x, y, seed=seed, paired=paired).value, replicate, level)


def _quantiles(replicate: Tensor, level: float) -> Tensor:
    """(2,) float64: what a share `level` of the replicates lies between."""
    return torch.quantile(replicate, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))


def _basic_interval(value: float, replicate: Tensor, level: float) -> tuple[float, float]:
    """[d − (q_hi − m), d − (q_lo − m)], m the mean of the replicates."""
    high, low = value - (_quantiles(replicate, level) - replicate.mean())
    return float(low), float(high)


def resampling_counts(n: int, replicates: int, seed: int) -> Tensor:
    """How often each of `n` samples is drawn in `n` draws with replacement; float64 (replicates, n)."""
    draws = torch.randint(n, (replicates, n), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(replicates, n, dtype=torch.float64).scatter_add_(1, draws, torch.ones_like(draws).double())


def weighted_distance(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Fréchet distance of x and y (N, D) whose rows are drawn `weights` times."""
    drawn = weights > 0
    w = weights[drawn, None]
    mean_x, mean_y = ((w * z[drawn]).sum(0) / w.sum() for z in (x, y))
    root = (w / (w.sum() - 1)).sqrt()
    a, b = (x[drawn] - mean_x) * root, (y[drawn] - mean_y) * root
    cross = trace_sqrt_from_covariances(a.T @ a, b.T @ b)
    return ((mean_x - mean_y).square().sum() + a.square().sum() + b.square().sum() - 2 * cross).clamp_min(0)


def _resampled_gram(z: Tensor, weights: Tensor) -> Tensor:
    """Gram matrix of the centred rows of z (N, D) drawn `weights` times: (D, D) or (rows drawn, rows drawn)."""
    drawn = weights > 0
    z, root = z[drawn], weights[drawn, None].sqrt()
    deviations = (z - weights[drawn] @ z / weights.sum()) * root
    return deviations @ deviations.T if len(z) < z.shape[1] else deviations.T @ deviations
