"""The Fréchet distance between Gaussians fitted to two sets of features, in float64, and its limit at infinite N.

With means μ and covariances Σ (Dowson & Landau 1982; Heusel et al. 2017, eq. 6):

    d² = ‖μa − μb‖² + tr Σa + tr Σb − 2 tr (Σa^½ Σb Σa^½)^½

The last trace is the sum of the singular values (nuclear norm) of Σa^½ Σb^½. It is computed from symmetric eigenvalues,
or, when there are fewer samples than dimensions, exactly from the centred samples: with Σ = XᵀX / (n − 1) it is
‖Xa Xbᵀ‖_* / √((na − 1)(nb − 1)), because tr (Σa Σb)^½ depends only on the product.

Everything here is pure: tensors in, numbers out, no networks and no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Features = Tensor | np.ndarray
_ROWS = 512
NEAR = 0.25  # of the distance between neighbours of one side


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and scatter of a set of features; streams by `update`, and shards combine by `merge` in any order.

    Attributes:
        count: number of samples.
        mean: float64 (D,).
        scatter: float64 (D, D), Σ (x − mean)(x − mean)ᵀ. Kept centred (Chan, Golub & LeVeque 1983), because sums of raw
            products lose the covariance when the mean is large.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def from_features(cls, features: Features) -> FeatureStatistics:
        """Statistics of features (N, D), N ≥ 1."""
        x = as_matrix(features)
        centred = x - x.mean(0)
        return cls(len(x), x.mean(0), centred.T @ centred)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Statistics of the union of both sets."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        between = torch.outer(delta, delta) * (self.count * other.count / count)
        return FeatureStatistics(count, mean, self.scatter + other.scatter + between)

    def update(self, features: Features) -> FeatureStatistics:
        """Statistics with the features (N, D) added."""
        return self.merge(FeatureStatistics.from_features(features))

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, float64 (D, D)."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 videos, got {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(features_a: Features, features_b: Features) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features.

    Args:
        features_a: (N, D), any float type.
        features_b: (M, D).

    Returns:
        The squared-distance form d² used by FID and FVD, in squared feature units; 0 exactly for the same samples.

    Raises:
        ValueError: not two-dimensional, different D, fewer than 2 rows, or values that are not finite.
    """
    a, b = as_matrix(features_a, minimum=2), as_matrix(features_b, minimum=2)
    check_same_width(a.shape[1], b.shape[1])
    if same_samples(a, b):
        return 0.0
    if min(len(a), len(b)) >= a.shape[1]:
        return frechet_from_statistics(FeatureStatistics.from_features(a), FeatureStatistics.from_features(b))
    mean_term = (a.mean(0) - b.mean(0)).square().sum()
    a, b = _scaled_deviations(a), _scaled_deviations(b)
    traces = a.square().sum() + b.square().sum()
    return float((mean_term + traces - 2 * trace_sqrt_from_deviations(a, b)).clamp_min(0))


def frechet_from_statistics(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Fréchet distance between the Gaussians with these means and covariances.

    Raises:
        ValueError: different D, or a count below 2.
    """
    check_same_width(len(a.mean), len(b.mean))
    traces = a.covariance.trace() + b.covariance.trace()
    cross = trace_sqrt_from_covariances(a.covariance, b.covariance)
    return float(((a.mean - b.mean).square().sum() + traces - 2 * cross).clamp_min(0))


def trace_sqrt_from_covariances(cov_a: Tensor, cov_b: Tensor) -> Tensor:
    """tr (Σa^½ Σb Σa^½)^½ of two symmetric positive semi-definite (D, D) matrices, by symmetric eigendecompositions.

    Eigenvalues that rounding has made negative are clipped to zero.
    """
    root = matrix_sqrt(cov_a)
    return sum_of_roots(root @ cov_b @ root)


def trace_sqrt_from_deviations(a: Tensor, b: Tensor) -> Tensor:
    """The same trace from (N, D) and (M, D) deviations with Σ = XᵀX: the nuclear norm of their (N, M) product."""
    return torch.linalg.svdvals(a @ b.T).sum()


def matrix_sqrt(covariance: Tensor) -> Tensor:
    """Symmetric square root of a symmetric positive semi-definite (D, D) matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


@dataclass(frozen=True)
class InfinityFit:
    """A line distance(n) = value + slope / n.

    Attributes:
        value: the intercept, the distance at infinitely many samples.
        slope: the bias per 1 / n.
        r_squared: share of the variance over n that the line explains; None of two sizes, which every line explains.
        sizes: subset sizes n of `features`, largest first.
        distances: mean Fréchet distance at each size.
    """

    value: float
    slope: float
    r_squared: float | None
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_infinity(
    features: Features,
    reference: Features,
    max_splits: int = 4,
    repeats: int = 8,
    seed: int = 0,
    paired: bool = False,
) -> InfinityFit:
    """Extrapolate the Fréchet distance to infinitely many samples on both sides (after Chong & Forsyth 2020, FID∞).

    The sets are permuted and cut into k = 1, 2, … disjoint parts, so the sizes N/k are evenly spaced in 1/N. The
    distances of the k pairs of parts, over `repeats` permutations, are averaged, and a line is fitted to them.
    Chong & Forsyth subset the generated side only, which leaves the reference's bias in the result.
    The bias is linear in 1/N only down to about N = D, so parts smaller than D are not used where N ≥ 2D; below
    that the value is too high (43 instead of 25 at N = 512, D = 400).

    Args:
        features: (N, D).
        reference: (M, D).
        max_splits: largest number of parts; at least 2 are used.
        repeats: permutations averaged for each k > 1.
        seed: of the permutations.
        paired: row i of both sides belongs to the same prompt; parts then keep pairs together. Split apart, small
            parts would differ in their prompts, which the whole sets do not, and the extrapolation would overshoot.

    Returns:
        The fit; 0 for the same samples on both sides, whose parts would differ although the sets do not.

    Raises:
        ValueError: fewer than 4 samples on a side.
    """
    x, y = as_matrix(features), as_matrix(reference)
    fewest = min(len(x), len(y))
    if fewest < 4:
        raise ValueError(f"{fewest} videos are too few to extrapolate from two parts: need 4")
    generator = torch.Generator().manual_seed(seed)
    splits = range(1, min(max_splits, max(2, fewest // x.shape[1])) + 1)
    if same_samples(x, y):
        distances = [0.0 for _ in splits]
    else:
        distances = [_mean_split_distance(x, y, k, repeats if k > 1 else 1, generator, paired) for k in splits]
    sizes = [len(x) // k for k in splits]
    inverse = 1 / np.array(sizes)
    slope, value = np.polyfit(inverse, distances, 1)
    residual, spread = distances - (value + slope * inverse), np.var(distances)
    r_squared = float(1 - residual.var() / spread) if len(sizes) > 2 and spread > 0 else None
    return InfinityFit(float(value), float(slope), r_squared, tuple(sizes), tuple(distances))


def _mean_split_distance(
    x: Tensor, y: Tensor, parts: int, repeats: int, generator: torch.Generator, paired: bool
) -> float:
    distances = []
    for _ in range(repeats):
        order_x = torch.randperm(len(x), generator=generator)
        order_y = order_x if paired else torch.randperm(len(y), generator=generator)
        for i in range(parts):
            distances.append(frechet_distance(_part(x, order_x, i, parts), _part(y, order_y, i, parts)))
    return float(np.mean(distances))


def _part(x: Tensor, order: Tensor, index: int, parts: int) -> Tensor:
    size = len(x) // parts
    return x[order[index * size : (index + 1) * size]]


def sum_of_roots(matrix: Tensor) -> Tensor:
    """Sum of the square roots of the eigenvalues of a symmetric positive semi-definite matrix."""
    return torch.linalg.eigvalsh(matrix).clamp_min(0).sqrt().sum()


def _scaled_deviations(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (len(x) - 1) ** 0.5


def as_matrix(features: Features, minimum: int = 1) -> Tensor:
    """Features as a finite float64 (N, D) on the CPU; ValueError where they are not, or fewer than `minimum`."""
    x = torch.as_tensor(features).detach().to("cpu", torch.float64)
    if x.ndim != 2:
        raise ValueError(f"features must be (videos, dimensions), got shape {tuple(x.shape)}")
    if len(x) < minimum:
        raise ValueError(f"{len(x)} videos are too few for a Fréchet distance: need at least {minimum}")
    if not x.isfinite().all():
        raise ValueError(f"features of {(~x.isfinite()).any(1).sum()} of {len(x)} videos are not finite")
    return x


def same_samples(a: Features, b: Features) -> bool:
    """Whether two sets of features hold the same rows, in any order."""
    x, y = as_matrix(a), as_matrix(b)
    if x.shape != y.shape or not torch.equal(x[:, 0].sort().values, y[:, 0].sort().values):
        return False
    one, other = (rows[np.lexsort(rows.T)] for rows in (x.numpy(), y.numpy()))
    return np.array_equal(one, other)


def near_copies(features: Features, reference: Features) -> int:
    """How many videos lie far nearer to one of the reference than that one's own kind do: at less than a quarter of the
    reference's median distance to the nearest neighbour (ours). A clip encoded once more is such a copy.
    """
    x, y = as_matrix(features), as_matrix(reference)
    # Of a side to itself the second nearest, since the nearest is the row; few rows at a time, for N may be 10,000.
    own = torch.cat([torch.cdist(rows, y).kthvalue(2, 1).values for rows in y.split(_ROWS)])
    nearest = torch.cat([torch.cdist(rows, y).amin(1) for rows in x.split(_ROWS)])
    return int((nearest < NEAR * own.median()).sum())


def check_same_width(a: int, b: int) -> None:
    """ValueError unless both sets have the same D."""
    if a != b:
        raise ValueError(f"features come from different extractors: {a} and {b} dimensions")
