"""Do two arms differ? Paired tests of scores and distances of the same seeds and prompts.

Arms of one run draw the same videos but for quantization, so what two of them differ in is seen video by video, long
before the intervals of each alone part. Nothing here knows what an arm is: scores and features come in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from metrics.frechet import Features, frechet_distance
from metrics.intervals import paired_bootstrap_distances
from metrics.score_intervals import mean_intervals, share_interval

FEWEST = 6
"""Videos below which no outcome of a two-sided signed-rank test reaches 0.05: 2 · 2⁻⁵ = 0.0625."""


@dataclass(frozen=True)
class Comparison:
    """Scores of arm A against those of arm B, oriented so that positive and more wins mean that A is better.

    Attributes:
        difference: mean of A − B over the videos, its sign turned where lower scores are better.
        interval: 95 % studentized bootstrap interval of it, see `metrics.score_intervals.mean_intervals`.
        wins, ties, losses: videos on which A is better, equal, worse.
        sign_p: two-sided sign test: as many wins as losses.
        wilcoxon_p: two-sided signed-rank test (Wilcoxon 1945): differences symmetric about 0.
        p: the larger of the two, corrected for the number of pairs where several were compared (Holm 1979).
        improvement: probability that A is better on a video, ties counted half, and its 95 % Wilson interval.
    """

    difference: float
    interval: tuple[float, float]
    wins: int
    ties: int
    losses: int
    sign_p: float
    wilcoxon_p: float
    p: float
    improvement: float
    improvement_interval: tuple[float, float]

    def decides(self, level: float = 0.05) -> bool:
        """Whether A is better at this error level; for B, see `reversed`."""
        return self.p < level and self.wins > self.losses

    @property
    def reversed(self) -> Comparison:
        """B against A."""
        return replace(
            self,
            difference=-self.difference,
            interval=(-self.interval[1], -self.interval[0]),
            wins=self.losses,
            losses=self.wins,
            improvement=1 - self.improvement,
            improvement_interval=(1 - self.improvement_interval[1], 1 - self.improvement_interval[0]),
        )


def compare_scores(
    a: Tensor, b: Tensor, higher_is_better: bool = True, replicates: int = 2000, seed: int = 0
) -> Comparison:
    """The comparison of two arms' scores, `p` uncorrected.

    Args:
        a: (N,), one score per video.
        b: (N,), of the same videos.
        replicates: of the bootstrap.

    Raises:
        ValueError: other shapes, scores that are not finite, or fewer than 6 videos.
    """
    check_scores(a, b)
    differences = _oriented(a, b, higher_is_better)
    return _comparison(differences, mean_intervals(differences[None], replicates=replicates, seed=seed)[0])


def compare_all(
    scores: Mapping[str, Tensor], higher_is_better: bool = True, replicates: int = 2000, seed: int = 0
) -> dict[tuple[str, str], Comparison]:
    """Every ordered pair of arms, `p` corrected for the number of pairs by Holm's method.

    Args:
        scores: arm → (N,), the same videos in the same order.

    Raises:
        ValueError: as `compare_scores`, naming the arms.
    """
    pairs = list(combinations(scores, 2))
    if not pairs:
        return {}
    for a, b in pairs:
        try:
            check_scores(scores[a], scores[b])
        except ValueError as error:
            raise ValueError(f"{a} against {b}: {error}") from error
    differences = torch.stack([_oriented(scores[a], scores[b], higher_is_better) for a, b in pairs])
    intervals = mean_intervals(differences, replicates=replicates, seed=seed)
    plain = [_comparison(*of_pair) for of_pair in zip(differences, intervals, strict=True)]
    corrected = holm([comparison.p for comparison in plain])
    result: dict[tuple[str, str], Comparison] = {}
    for (a, b), comparison, p in zip(pairs, plain, corrected, strict=True):
        result[a, b] = replace(comparison, p=p)
        result[b, a] = result[a, b].reversed
    return result


def ranks(comparisons: Mapping[tuple[str, str], Comparison], level: float = 0.05) -> dict[str, int]:
    """1 + the number of arms that are better at this level: arms that the data cannot tell apart may share a rank."""
    arms = dict.fromkeys(a for a, _ in comparisons)
    return {arm: 1 + sum(comparisons[other, arm].decides(level) for other in arms if other != arm) for arm in arms}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given (Holm 1979, step down): each at most 1."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class DistanceComparison:
    """Fréchet distances of two arms to one reference, at this N.

    Attributes:
        ratio: of A's to B's; below 1, A is nearer.
        interval: 95 %, ratio · exp(± 1.96 s), s the standard deviation of the ratio's logarithm over resampled videos,
            those of A, B and the reference together: as the distances' own, `metrics.intervals.log_interval`.
        p: two-sided, of a ratio of 1, by the same normal distribution of the logarithm.
    """

    ratio: float
    interval: tuple[float, float]
    p: float


def compare_distances(
    a: Features, b: Features, reference: Features, replicates: int = 500, seed: int = 0
) -> DistanceComparison:
    """Which of two arms' videos lie nearer, as a set, to the videos that both are paired with.

    Args:
        a, b, reference: (N, D) features; row i of each belongs to one seed and prompt.

    Raises:
        ValueError: other shapes, fewer than 6 videos, or an arm whose features are the reference's.
    """
    if len(a) < FEWEST:
        raise ValueError(f"N={len(a)}: a paired comparison needs at least {FEWEST} videos")
    resampled = [paired_bootstrap_distances(side, reference, replicates, seed) for side in (a, b)]
    return compare_replicates(frechet_distance(a, reference), frechet_distance(b, reference), *resampled)


def compare_replicates(a: float, b: float, resampled_a: Tensor, resampled_b: Tensor) -> DistanceComparison:
    """`compare_distances` from what the arms' own intervals were made of.

    Args:
        a, b: the distances.
        resampled_a, resampled_b: (replicates,), of `metrics.intervals.paired_bootstrap_distances`, of one N.

    Raises:
        ValueError: an arm that lies at no distance.
    """
    if not (a > 0 and b > 0 and resampled_a.min() > 0 and resampled_b.min() > 0):
        raise ValueError("features equal to the reference's: there is no ratio where a distance is zero")
    logarithm, spread = math.log(a / b), (resampled_a / resampled_b).log().std().item()
    if spread == 0:
        return DistanceComparison(a / b, (a / b, a / b), float(a == b))
    width = float(stats.norm.ppf(0.975)) * spread
    p = float(2 * stats.norm.sf(abs(logarithm) / spread))
    return DistanceComparison(a / b, (math.exp(logarithm - width), math.exp(logarithm + width)), p)


def check_scores(a: Tensor, b: Tensor) -> None:
    """ValueError unless both are finite, of the same shape (N,), and N is at least 6."""
    if a.shape != b.shape or a.ndim != 1:
        shapes = f"{tuple(a.shape)}, {tuple(b.shape)}"
        raise ValueError(f"paired scores must be one per video of the same videos, got {shapes}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("scores that are not finite compare with nothing")
    if len(a) < FEWEST:
        raise ValueError(f"N={len(a)}: a paired test at 0.05 needs at least {FEWEST} videos")


def _oriented(a: Tensor, b: Tensor, higher_is_better: bool) -> Tensor:
    """(N,) float64: positive where A is better."""
    return (a.double() - b.double()).cpu() * (1 if higher_is_better else -1)


def _comparison(differences: Tensor, interval: Tensor) -> Comparison:
    """Of oriented differences (N,), `p` uncorrected."""
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    decided, n = wins + losses, len(differences)
    sign = float(stats.binomtest(wins, decided).pvalue) if decided else 1.0
    ranks = float(stats.wilcoxon(differences.numpy()).pvalue) if decided else 1.0
    improvement = (wins + (n - decided) / 2) / n
    low, high = interval.tolist()
    return Comparison(
        difference=differences.mean().item(),
        interval=(low, high),
        wins=wins,
        ties=n - decided,
        losses=losses,
        sign_p=sign,
        wilcoxon_p=ranks,
        p=max(sign, ranks),
        improvement=improvement,
        improvement_interval=share_interval(improvement, n),
    )
