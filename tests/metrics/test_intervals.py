import numpy as np
import pytest
import torch

from metrics.frechet import frechet_distance, frechet_infinity
from metrics.intervals import (
    infinity_interval,
    log_interval,
    paired_bootstrap_interval,
    resampling_counts,
    weighted_distance,
)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 12, generator=generator, dtype=torch.float64)
    return x, x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64) + 0.05


def test_weights_of_one_are_the_plain_distance(pair):
    assert weighted_distance(*pair, torch.ones(120, dtype=torch.float64)).item() == pytest.approx(
        frechet_distance(*pair)
    )


def test_weights_are_repeated_rows(pair):
    counts = torch.randint(0, 4, (120,), generator=torch.Generator().manual_seed(1))
    repeated = [side.repeat_interleave(counts, 0) for side in pair]
    assert weighted_distance(*pair, counts.double()).item() == pytest.approx(frechet_distance(*repeated), rel=1e-6)


def test_the_paired_interval_is_positive_narrow_and_around_the_distance(pair):
    low, high = paired_bootstrap_interval(*pair, replicates=200)
    distance = frechet_distance(*pair)
    assert 0 < low < distance < high < 3 * distance


@pytest.mark.parametrize("interval", [paired_bootstrap_interval, infinity_interval])
def test_lower_levels_lie_inside_and_every_seed_draws_anew(interval, pair):
    few = [side[:24, :3] for side in pair]
    (low, high), (inner_low, inner_high) = (interval(*few, level=level, replicates=15) for level in (0.95, 0.5))
    assert low < inner_low < inner_high < high
    assert interval(*few, replicates=5, seed=1) != interval(*few, replicates=5, seed=2)


def test_the_paired_interval_is_symmetric_in_the_logarithm(pair):
    distances = [weighted_distance(*pair, weights).item() for weights in resampling_counts(120, replicates=50, seed=3)]
    spread = 1.2816 * np.std(np.log(distances), ddof=1)
    expected = frechet_distance(*pair) * np.exp([-spread, spread])
    assert paired_bootstrap_interval(*pair, level=0.8, replicates=50, seed=3) == pytest.approx(
        tuple(expected), rel=1e-4
    )


def test_replicates_that_do_not_tell_the_sides_apart_begin_the_interval_at_0():
    some = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    low, high = log_interval(2.0, some)
    assert low == 0 and high == pytest.approx(2 * np.exp(1.96 * np.log(2)), rel=1e-4)
    assert log_interval(0.0, torch.zeros(4)) == (0, 0)


@pytest.mark.parametrize("noise", [0, 1e-9])
def test_the_paired_interval_of_the_same_videos_is_none_wider_than_rounding(pair, noise):
    """It was [−2.5e287, 1.6e282]: noise divided by noise."""
    x = 50 * pair[0].repeat(1, 20)  # more dimensions than videos
    distance = frechet_distance(x, x + noise)
    low, high = paired_bootstrap_interval(x, x + noise, replicates=20)
    assert 0 <= low <= high <= 20 * distance < 1e-3


def test_pairs_must_match(pair):
    with pytest.raises(ValueError, match="paired features must have one shape"):
        paired_bootstrap_interval(pair[0], pair[1][:50])


def test_the_infinity_interval_holds_its_value_and_narrows_with_more_videos():
    generator = torch.Generator().manual_seed(3)
    reference = torch.randn(800, 6, generator=generator)
    generated = torch.randn(800, 6, generator=generator) + 0.3
    few, many = (infinity_interval(generated[:n], reference[:n], replicates=40) for n in (60, 800))
    assert few[0] < frechet_infinity(generated[:60], reference[:60]).value < few[1]
    assert many[1] - many[0] < (few[1] - few[0]) / 2
    assert many[0] < 6 * 0.3**2 < many[1]


def test_pairs_kept_together_do_not_overshoot_the_extrapolation():
    """Ten prompts far apart and small errors: the truth is near the errors' distance, never below zero by much."""
    generator = torch.Generator().manual_seed(4)
    prompts = 20 * torch.randn(10, 8, generator=generator)[torch.randint(10, (128,), generator=generator)]
    x, y = (prompts + torch.randn(128, 8, generator=generator) for _ in range(2))
    together = frechet_infinity(x, y, paired=True).value
    apart = frechet_infinity(x, y, paired=False).value
    assert apart < -20
    assert abs(together) < 5
    low, high = infinity_interval(x, y, replicates=30, paired=True)
    assert low < together < high
