"""How many videos decide between two arms: the sample size of the paired tests."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from metrics.comparisons import FEWEST, check_scores

_MOST_DRAWN = 2048


def videos_needed(differences: Tensor, effect: float, power: float = 0.8, level: float = 0.05) -> int:
    """How many videos decide, by both tests of `Comparison.decides`, a mean difference of `effect` with this power.

    The pilot's differences, shifted so that their mean is `effect` (what is asked is how they scatter, not how large
    they were), are a population from which runs of n videos are drawn; n grows until so large a share of them decides.
    It starts at half of Noether's (1987) sample size, of the two tests' the larger, (z₁₋α⸝₂ + z_power)² / (4 (p − ½)²)
    for the sign test and / (3 (q − ½)²) for the signed-rank test, p = P(D > 0) and q = P(D + D′ > 0); which is the
    answer itself where it is over 2,048.

    Args:
        differences: (N,) A − B of a pilot run, of at least 6 videos.
        effect: in units of the score.
        power: probability to decide, between 0.5 and 1.
        level: of the tests; α divided by their number where several pairs are compared.

    Returns:
        At least 6.

    Raises:
        ValueError: an effect that is not positive, a power or level out of range, a pilot that is too small, or one
            whose scatter is so lopsided that a shift of its mean is no shift of most of its videos.
    """
    if effect <= 0:
        raise ValueError(f"effect={effect}: must be positive")
    for name, value, lowest in (("power", power, 0.5), ("level", level, 0.0)):
        if not lowest < value < 1:
            raise ValueError(f"{name}={value}: must be between {lowest:g} and 1")
    check_scores(differences, differences)
    shifted = (differences.double() - differences.double().mean() + effect).cpu()
    beyond_half = (_share_above(shifted) - 0.5, _share_above(_sums_of_pairs(shifted[:_MOST_DRAWN])) - 0.5)
    if min(beyond_half) <= 0:
        raise ValueError(
            f"effect={effect}: too small for these tests, since the differences scatter so lopsidedly that with this "
            "mean most videos would show none, or the opposite"
        )
    z = float(stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power))
    sign, ranks = (z**2 / (factor * beyond**2) for factor, beyond in zip((4, 3), beyond_half, strict=True))
    noether = math.ceil(max(sign, ranks))
    if noether > _MOST_DRAWN:
        return noether
    n, generator = max(FEWEST, noether // 2), torch.Generator().manual_seed(0)
    while _decided_share(shifted, n, level, generator) < power:
        n = math.ceil(1.05 * n)
    return n


def _decided_share(population: Tensor, n: int, level: float, generator: torch.Generator) -> float:
    """Of 1,000 runs of n videos: in how many A is found better."""
    drawn = population[torch.randint(len(population), (1000, n), generator=generator)].numpy()
    wins, losses = (drawn > 0).sum(1), (drawn < 0).sum(1)
    sign = 2 * stats.binom.cdf(np.minimum(wins, losses), wins + losses, 0.5)
    ranks = stats.wilcoxon(drawn, axis=1, method="asymptotic").pvalue
    return float(((np.maximum(sign, ranks) < level) & (wins > losses)).mean())


def _sums_of_pairs(values: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(values), len(values), offset=1)
    return values[first] + values[second]


def _share_above(values: Tensor) -> float:
    """Of zero; half of those that are zero."""
    return ((values > 0).double().mean() + (values == 0).double().mean() / 2).item()
