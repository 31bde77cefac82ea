"""How many videos decide: as many as the tests themselves need, on differences that scatter as a pilot's."""

import math

import pytest
import torch

from metrics.comparisons import compare_scores
from metrics.power import videos_needed


def test_the_sample_size_is_that_of_the_tests():
    """Gaussian, σ = 1, effect 0.5: Noether has (1.96 + 0.84)² / 4 (Φ(0.5) − ½)² = 53.6 for the sign test."""
    pilot = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    n = videos_needed(pilot + 7, effect=0.5)
    assert n == pytest.approx(53.6, rel=0.15)
    assert videos_needed(pilot, effect=0.125) == pytest.approx(16 * n, rel=0.2)
    assert videos_needed(pilot, effect=0.05) == pytest.approx(100 * n, rel=0.2), "too many to be drawn"
    assert videos_needed(10 * pilot, effect=5) == n
    assert videos_needed(pilot, effect=0.5, power=0.9) > n < videos_needed(pilot, effect=0.5, level=0.01)
    assert videos_needed(pilot, effect=50) == 6


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_that_many_videos_decide_as_often_as_was_asked(sigma):
    """Of Gaussian differences, and of log-normal ones: lopsided, so that the sign test needs more than the other."""
    generator = torch.Generator().manual_seed(1)

    def draw(n):
        if sigma is None:
            return torch.randn(n, generator=generator)
        return torch.empty(n).log_normal_(0, sigma, generator=generator) - math.exp(sigma**2 / 2)

    n = videos_needed(draw(2000), effect=0.4, power=0.8)
    found = [compare_scores(draw(n) + 0.4, torch.zeros(n), replicates=2) for _ in range(400)]
    assert sum(each.decides() for each in found) / 400 == pytest.approx(0.8, abs=0.07)


@pytest.mark.parametrize(
    ("pilot", "asked", "message"),
    [
        (torch.randn(9), {"effect": 0}, "effect=0: must be positive"),
        (torch.randn(9), {"effect": 1, "power": 1.0}, "power=1.0: must be between 0.5 and 1"),
        (torch.randn(9), {"effect": 1, "level": 0.0}, "level=0.0: must be between 0 and 1"),
        (torch.randn(5), {"effect": 1}, "N=5: a paired test at 0.05 needs at least 6 videos"),
        (torch.tensor([0.0] * 19 + [100.0]), {"effect": 1}, "effect=1: too small for these tests"),
    ],
)
def test_a_sample_size_that_cannot_be_told(pilot, asked, message):
    with pytest.raises(ValueError, match=message):
        videos_needed(pilot, **asked)
