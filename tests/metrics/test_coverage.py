"""How often an interval holds what it is an interval of, over many made-up runs: what tables and docs say of it.

Where that is not 93 to 97 %, the metric's declaration or the table's note has the words.
"""

import math

import pytest
import torch

from metrics.comparisons import compare_distances
from metrics.frechet import frechet_distance, frechet_infinity
from metrics.intervals import bootstrap_interval, infinity_interval, paired_bootstrap_interval
from metrics.kernel import kernel_distance
from metrics.score_intervals import mean_intervals, median_interval, share_interval

RUNS = 4000
D = 6
pytestmark = pytest.mark.full


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def gaussian(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def lognormal(sigma):
    """Less its mean: lopsided, with one heavy tail."""

    def draw(generator, *shape):
        values = torch.empty(*shape, dtype=torch.float64).log_normal_(0, sigma, generator=generator)
        return values - math.exp(sigma**2 / 2)

    return draw


def student(generator, *shape):
    """With three degrees of freedom: two heavy tails."""
    return gaussian(generator, *shape) / (gaussian(generator, *shape, 3).square().mean(-1)).sqrt()


def tipping(generator, *shape):
    """Small errors, and a tenth that is lost."""
    lost = torch.rand(*shape, generator=generator) < 0.1
    return 0.2 * gaussian(generator, *shape) + 5 * lost - 0.5


def share_of(intervals, truth):
    return ((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).double().mean().item()


@pytest.mark.parametrize(
    ("draw", "n", "low", "high"),
    [
        (gaussian, 8, 0.93, 0.97),
        (gaussian, 32, 0.93, 0.97),
        (gaussian, 128, 0.93, 0.97),
        (lognormal(0.5), 8, 0.93, 0.97),
        (lognormal(0.5), 128, 0.93, 0.97),
        (lognormal(1), 128, 0.92, 0.97),
        (tipping, 128, 0.93, 0.98),
        (student, 128, 0.92, 0.97),
        (lognormal(1), 32, 0.91, 0.97),
    ],
)
def test_means_and_mean_differences(draw, n, low, high, generator):
    found = mean_intervals(draw(generator, RUNS, n), replicates=1000)
    assert low <= share_of(found, 0.0) <= high


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_shares(p, generator):
    found = (torch.rand(RUNS, 128, generator=generator) < p).double().mean(1)
    assert 0.93 <= share_of(torch.tensor([share_interval(share.item(), 128) for share in found]), p) <= 0.97


@pytest.mark.parametrize("draw", [gaussian, student, lognormal(1)])
def test_medians(draw, generator):
    found = torch.tensor([median_interval(scores) for scores in draw(generator, RUNS // 4, 128)])
    median = 1 - math.exp(0.5) if draw not in (gaussian, student) else 0.0
    assert 0.93 <= share_of(found, median) <= 0.975


def features(kind, generator, n=128):
    """Paired (n, D) features of an arm and of what it is compared with."""
    common, noise, other = (gaussian(generator, n, D) for _ in range(3))
    if kind == "shifted":
        return 2 * common + 0.3 * noise + 0.3, 2 * common
    if kind == "alike":
        return 2 * common + 0.3 * noise, 2 * common + 0.3 * other
    if kind == "heavy":
        heavy = (0.7 * common).exp()
        return 1.2 * heavy + 0.1 * noise, heavy
    lost = torch.rand(n, 1, generator=generator) < 0.05
    return torch.where(lost, 2 * other + 2, 2 * common + 0.1 * noise), 2 * common


def coverage(kind, generator, interval, value, runs):
    """Of the value expected at this N; the truth is the mean over the runs."""
    sets = [features(kind, generator) for _ in range(runs)]
    expected = sum(value(*pair) for pair in sets) / runs
    return share_of(torch.tensor([interval(*pair) for pair in sets], dtype=torch.float64), expected)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("shifted", 0.91, 0.97), ("alike", 0.90, 0.97), ("heavy", 0.89, 0.97), ("tipping", 0.93, 0.99)],
)
def test_distances_of_pairs(kind, low, high, generator):
    found = coverage(
        kind, generator, lambda *pair: paired_bootstrap_interval(*pair, replicates=100), frechet_distance, 300
    )
    assert low <= found <= high


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("shifted", 0.91, 0.99), ("alike", 0.86, 0.97), ("tipping", 0.91, 1)]
)
def test_ratios_of_distances(kind, low, high, generator):
    """Of two arms with errors of their own, those of one 1.3 times as large."""
    found = []
    for _ in range(200):
        (x, reference), (other, its_reference) = features(kind, generator), features(kind, generator)
        found.append(compare_distances(x, reference + 1.3 * (other - its_reference), reference, replicates=100))
    expected = math.exp(sum(math.log(each.ratio) for each in found) / len(found))
    assert low <= share_of(torch.tensor([each.interval for each in found], dtype=torch.float64), expected) <= high


@pytest.mark.parametrize(("kind", "low", "high"), [("shifted", 0.92, 0.98), ("alike", 0.90, 1), ("heavy", 0.80, 0.96)])
def test_distances_to_a_fixed_reference(kind, low, high, generator):
    reference = features(kind, generator)[1]
    found = coverage(
        kind,
        generator,
        lambda x, _: bootstrap_interval(x, reference, replicates=100),
        lambda x, _: frechet_distance(x, reference),
        300,
    )
    assert low <= found <= high


@pytest.mark.parametrize(("kind", "low", "high"), [("shifted", 0.88, 0.98), ("tipping", 0.70, 0.95)])
def test_extrapolations_of_pairs(kind, low, high, generator):
    found = coverage(
        kind,
        generator,
        lambda *pair: infinity_interval(*pair, replicates=40, paired=True),
        lambda *pair: frechet_infinity(*pair, paired=True).value,
        100,
    )
    assert low <= found <= high


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("shifted", 0.91, 0.97), ("alike", 0.93, 0.98), ("heavy", 0.90, 0.97), ("tipping", 0.85, 0.95)],
)
def test_kernel_distances_of_pairs(kind, low, high, generator):
    found = coverage(
        kind,
        generator,
        lambda *pair: kernel_distance(*pair, paired=True).interval,
        lambda *pair: kernel_distance(*pair, paired=True, replicates=2).value,
        400,
    )
    assert low <= found <= high


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("shifted", 0.91, 0.98), ("alike", 0.93, 0.99), ("heavy", 0.85, 0.95)]
)
def test_kernel_distances_of_independent_sides(kind, low, high, generator):
    sets = [(features(kind, generator)[0], features(kind, generator, 96)[1]) for _ in range(400)]
    found = [kernel_distance(*pair) for pair in sets]
    expected = sum(each.value for each in found) / len(found)
    covered = share_of(torch.tensor([each.interval for each in found], dtype=torch.float64), expected)
    assert low <= covered <= high
