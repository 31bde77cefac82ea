import math

import pytest
import torch
from scipy import stats

from metrics.comparisons import compare_all, compare_distances, compare_replicates, compare_scores, holm, ranks


def scores(n=64, offset=0.0, noise=1.0, seed=0):
    """(A, B): B common to both, A = B + offset + noise."""
    generator = torch.Generator().manual_seed(seed)
    b = 5 * torch.randn(n, generator=generator)
    return b + offset + noise * torch.randn(n, generator=generator), b


def test_a_small_shift_is_seen_where_the_intervals_of_each_alone_overlap():
    a, b = scores(offset=0.5, noise=0.3)
    found = compare_scores(a, b)
    assert found.decides() and not found.reversed.decides()
    assert found.p < 1e-6 and found.interval[0] < 0.5 < found.interval[1]
    assert stats.ttest_ind(a, b).pvalue > 0.3, "unpaired, the same data says nothing"


def test_numbers_are_those_of_the_textbook():
    a, b = torch.tensor([3.0, 5.0, 2.0, 7.0, 4.0, 9.0, 1.0]), torch.tensor([1.0, 4.0, 2.0, 3.0, 9.0, 3.0, 4.0])
    found = compare_scores(a, b)  # differences 2, 1, 0, 4, −5, 6, −3
    assert (found.wins, found.ties, found.losses) == (4, 1, 2)
    assert found.difference == pytest.approx(5 / 7)
    assert found.sign_p == pytest.approx(2 * sum(math.comb(6, k) for k in range(3)) / 2**6)
    assert found.wilcoxon_p == pytest.approx(2 * 22 / 64)  # W⁻ = 3 + 5 = 8: 22 of the 64 signings of ranks 1…6 reach it
    assert found.improvement == pytest.approx(4.5 / 7) and found.p == max(found.sign_p, found.wilcoxon_p)


def test_lower_is_better_turns_every_sign():
    a, b = scores(offset=0.4)
    up, down = compare_scores(a, b), compare_scores(a, b, higher_is_better=False)
    assert down.difference == -up.difference and (down.wins, down.losses) == (up.losses, up.wins)
    assert down.improvement == pytest.approx(1 - up.improvement) and down.p == up.p
    assert down.interval == pytest.approx((-up.interval[1], -up.interval[0]), abs=0.02)


def test_equal_scores_are_a_tie_of_p_1():
    a, _ = scores(8)
    found = compare_scores(a, a)
    assert found.p == 1 and found.interval == (0, 0) and found.ties == 8 and found.improvement == 0.5
    assert not found.decides() and not found.reversed.decides()


def test_holm_is_the_published_example():
    """Holm 1979, as in R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_arms_that_cannot_be_told_apart_share_a_rank():
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(100, generator=generator)
    arms = {name: base + level + 0.3 * torch.randn(100, generator=generator) for name, level in LEVELS.items()}
    found = compare_all(arms)
    assert ranks(found) == {"good": 1, "also good": 1, "bad": 3}
    assert found["bad", "good"] == found["good", "bad"].reversed
    assert found["good", "bad"].p >= compare_scores(arms["good"], arms["bad"]).p


LEVELS = {"good": 1.0, "also good": 1.0, "bad": 0.0}


def test_no_difference_is_decided_as_rarely_as_the_level_says():
    decided = [compare_scores(*scores(30, seed=seed), replicates=50) for seed in range(400)]
    share = sum(c.decides() or c.reversed.decides() for c in decided) / 400
    assert share < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def heavy_tailed(n, generator):
    return torch.empty(n).log_normal_(0, 1, generator=generator)


def test_the_nearer_set_is_told_and_where_none_is_nothing_is():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(96, 5, generator=generator)
    near, far, as_near = (z + s * torch.randn(96, 5, generator=generator) for s in (0.3, 0.9, 0.3))
    told = compare_distances(near, far, z, replicates=200)
    assert told.interval[0] < told.ratio < told.interval[1] < 1 and told.p < 1e-3
    untold = compare_distances(near, as_near, z, replicates=200)
    assert untold.interval[0] < 1 < untold.interval[1] and untold.p > 0.05
    back = compare_distances(far, near, z, replicates=200)
    assert back.ratio == pytest.approx(1 / told.ratio) and back.interval == pytest.approx(
        (1 / told.interval[1], 1 / told.interval[0]), rel=1e-6
    )


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(8), torch.zeros(9), r"one per video of the same videos, got \(8,\), \(9,\)"),
        (torch.zeros(5), torch.zeros(5), "N=5: a paired test at 0.05 needs at least 6 videos"),
        (torch.full((8,), torch.nan), torch.zeros(8), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(a, b, message):
    with pytest.raises(ValueError, match=message):
        compare_scores(a, b)
    with pytest.raises(ValueError, match=f"x against y: .*{message}"):
        compare_all({"x": a, "y": b})


def test_identical_sets_have_no_ratio():
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="no ratio where a distance is zero"):
        compare_distances(x, 2 * x, x)


def test_a_ratio_is_measured_in_the_spread_of_its_logarithm():
    resampled_a = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    found = compare_replicates(3.0, 2.0, resampled_a, torch.ones(4, dtype=torch.float64))
    spread = math.log(2) * math.sqrt(5 / 3)
    assert found.interval == pytest.approx((1.5 * math.exp(-1.96 * spread), 1.5 * math.exp(1.96 * spread)), rel=1e-4)
    assert found.p == pytest.approx(math.erfc(math.log(1.5) / spread / math.sqrt(2)))
    assert compare_replicates(2.0, 2.0, resampled_a, resampled_a).p == 1
    assert compare_replicates(4.0, 2.0, 2 * resampled_a, resampled_a).interval == (2, 2)
