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

from metrics.frechet import Features, as_matrix, frechet_distance
from metrics.intervals import resampling_counts, weighted_distance

FEWEST = 6
"""Videos below which no outcome of a two-sided signed-rank test reaches 0.05: 2 · 2⁻⁵ = 0.0625."""


@dataclass(frozen=True)
class Comparison:
    """Scores of arm A against those of arm B, oriented so that positive and more wins mean that A is better.

    Attributes:
        difference: mean of A − B over the videos, its sign turned where lower scores are better.
        interval: 95 % bias-corrected and accelerated bootstrap interval of it (Efron 1987), videos resampled.
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
    _check(a, b)
    differences = (a.double() - b.double()).cpu().numpy() * (1 if higher_is_better else -1)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    decided, n = wins + losses, len(differences)
    sign = stats.binomtest(wins, decided).pvalue if decided else 1.0
    ranks = float(stats.wilcoxon(differences).pvalue) if decided else 1.0
    improvement = (wins + (n - decided) / 2) / n
    return Comparison(
        difference=float(differences.mean()),
        interval=_mean_interval(differences, replicates, seed),
        wins=wins,
        ties=n - decided,
        losses=losses,
        sign_p=float(sign),
        wilcoxon_p=ranks,
        p=max(float(sign), ranks),
        improvement=improvement,
        improvement_interval=_wilson(improvement, n),
    )


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
    plain: list[Comparison] = []
    for a, b in pairs:
        try:
            plain.append(compare_scores(scores[a], scores[b], higher_is_better, replicates, seed))
        except ValueError as error:
            raise ValueError(f"{a} against {b}: {error}") from error
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
    """Fréchet distances of two arms to one reference.

    Attributes:
        ratio: of A's to B's; below 1, A is nearer.
        interval: 95 % percentile bootstrap interval, videos of A, B and the reference resampled together.
        p: two-sided: twice the smaller share of replicates on one side of 1, at least 2 in their number.
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
        ValueError: other shapes, or an arm whose features are the reference's.
    """
    x, y, z = (as_matrix(features, minimum=FEWEST) for features in (a, b, reference))
    if not x.shape == y.shape == z.shape:
        shapes = ", ".join(str(tuple(features.shape)) for features in (x, y, z))
        raise ValueError(f"paired features must have one shape, got {shapes}")
    if torch.equal(x, z) or torch.equal(y, z):
        raise ValueError("features equal to the reference's: there is no ratio where a distance is zero")
    whole = frechet_distance(x, z), frechet_distance(y, z)
    counts = resampling_counts(len(x), replicates, seed)
    logs = torch.stack([(weighted_distance(x, z, w) / weighted_distance(y, z, w)).log() for w in counts])
    low, high = torch.quantile(logs, torch.tensor([0.025, 0.975], dtype=torch.float64)).exp().tolist()
    share = min((logs <= 0).double().mean().item(), (logs >= 0).double().mean().item())
    return DistanceComparison(whole[0] / whole[1], (low, high), min(1.0, max(2 * share, 2 / replicates)))


def videos_needed(differences: Tensor, effect: float, power: float = 0.8, level: float = 0.05) -> int:
    """How many videos show a mean difference of `effect` with this power: ((z₁₋α⸝₂ + z_power) σ / effect)², at least 6.

    Args:
        differences: (N,) A − B of a pilot run; its standard deviation σ is what counts.

    Raises:
        ValueError: an effect that is not positive.
    """
    if effect <= 0:
        raise ValueError(f"effect={effect}: must be positive")
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return max(FEWEST, math.ceil((z * differences.double().std().item() / effect) ** 2))


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 1:
        shapes = f"{tuple(a.shape)}, {tuple(b.shape)}"
        raise ValueError(f"paired scores must be one per video of the same videos, got {shapes}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("scores that are not finite compare with nothing")
    if len(a) < FEWEST:
        raise ValueError(f"N={len(a)}: a paired test at 0.05 needs at least {FEWEST} videos")


def _mean_interval(differences: np.ndarray, replicates: int, seed: int) -> tuple[float, float]:
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    found = stats.bootstrap((differences,), np.mean, n_resamples=replicates, method="BCa", rng=seed)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval (1927), which stays inside [0, 1] and has a width at 0 and 1."""
    centre, spread = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)
