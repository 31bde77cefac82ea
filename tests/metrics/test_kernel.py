"""The kernel distance against its formula, on average 0 where distributions agree, and as exact as it says."""

from itertools import permutations

import numpy as np
import pytest
import torch

from metrics.catalogue.kvd import KVD, KVD_FP
from metrics.extractors.loading import load_extractor
from metrics.inputs import FeatureSets
from metrics.intervals import resampling_counts
from metrics.kernel import kernel_distance
from qvd.data.shapes import Shapes


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y, LONGER = randn(5, 4), randn(5, 4, seed=1) + 0.5, randn(9, 4, seed=2) - 0.5


def k(a, b):
    return (a @ b / 4 + 1) ** 3


def mean_of_different(f, n):
    return np.mean([f(i, j) for i, j in permutations(range(n), 2)])


@pytest.mark.parametrize("y", [Y, LONGER])
def test_independent_sides_meet_in_all_pairs_but_no_video_itself(y):
    within = mean_of_different(lambda i, j: k(X[i], X[j]), 5) + mean_of_different(lambda i, j: k(y[i], y[j]), len(y))
    across = np.mean([k(a, b) for a in X for b in y])
    assert kernel_distance(X, y).value == pytest.approx(within - 2 * across)


def test_pairs_do_not_meet_their_own():
    def h(i, j):
        return k(X[i], X[j]) + k(Y[i], Y[j]) - k(X[i], Y[j]) - k(X[j], Y[i])

    assert kernel_distance(X, Y, paired=True).value == pytest.approx(mean_of_different(h, 5))


@pytest.mark.parametrize("paired", [True, False])
def test_blocks_of_rows_make_no_difference(paired, monkeypatch):
    whole = kernel_distance(X, Y, paired)
    monkeypatch.setattr("metrics.kernel._BLOCK_ROWS", 2)
    parts = kernel_distance(X, Y, paired)
    assert (parts.value, parts.standard_error) == pytest.approx((whole.value, whole.standard_error))
    assert parts.interval == pytest.approx(whole.interval)


def test_the_order_of_independent_videos_does_not_matter_and_that_of_pairs_does():
    turned = Y.roll(1, 0)
    assert kernel_distance(X, turned).value == pytest.approx(kernel_distance(X, Y).value)
    assert kernel_distance(X, turned, paired=True).value != pytest.approx(kernel_distance(X, Y, paired=True).value)


def draws(kind, n, trial):
    """(N, 8), (N, 8) or (2N, 8): alike in distribution or shifted, with a common part where they are paired."""
    shift = {"alike": 0.0, "shifted": 0.5}[kind[1]]
    common = 2 * randn(n, 8, seed=3 * trial)
    x, y = randn(n, 8, seed=3 * trial + 1) + shift, randn(n, 8, seed=3 * trial + 2)
    return (common + x, common + y) if kind[0] == "paired" else (x, torch.cat([y, common / 2]))


@pytest.mark.parametrize("kind", [(sides, how) for sides in ("paired", "apart") for how in ("alike", "shifted")])
def test_the_standard_error_is_the_spread_over_repetitions_and_alike_is_0_on_average(kind):
    found = [kernel_distance(*draws(kind, 40, trial), paired=kind[0] == "paired") for trial in range(300)]
    values = torch.tensor([each.value for each in found])
    told = torch.tensor([each.standard_error for each in found]).square().mean().sqrt()
    assert told == pytest.approx(values.std().item(), rel=0.25)
    off = values.mean() / (values.std() / 300**0.5)
    assert abs(off) < 3 if kind[1] == "alike" else off > 20


def test_counted_with_their_own_pairs_are_below_zero():
    """What the estimate was before: the distributions agree, and it said −3 standard errors of its mean."""
    counted = torch.tensor([kernel_distance(*draws(("paired", "alike"), 40, trial)).value for trial in range(50)])
    assert counted.mean() < -5 * counted.std() / 50**0.5


@pytest.fixture(scope="module")
def fresh():
    """Features of the evaluation split's first 64 clips, and of new clips of the same captions."""
    train, reference = Shapes(split="train"), Shapes()
    by_caption = {}
    for index in range(12_000):
        by_caption.setdefault(train.attributes(index).caption, []).append(index)
    rows = [by_caption[reference.attributes(index).caption].pop() for index in range(64)]
    clips = np.stack([train.frames(row) for row in rows]), np.stack([reference.frames(row) for row in range(64)])
    extractor = load_extractor("shapes_classifier")
    return [extractor(torch.from_numpy(side)).double() for side in clips]


def test_fresh_clips_of_the_same_captions_are_at_no_distance(fresh):
    found, counted = kernel_distance(*fresh, paired=True), kernel_distance(*fresh)
    assert abs(found.value) < 2 * found.standard_error
    assert counted.value < -10 * found.standard_error, "with the pairs i = i they seem nearer than nearest"


def test_the_declared_metric_pairs_where_the_protocol_does(fresh):
    x, y = fresh
    paired = KVD.compute(FeatureSets(features=x, fp_features=y, reference=y, prompts_match=True))
    assert paired.value == kernel_distance(x, y, paired=True).value and not paired.warnings
    fewer = KVD.compute(FeatureSets(features=x, fp_features=y, reference=y[:60], prompts_match=True))
    assert "of 64 videos and 60 clips it is not known which belong together" in fewer.warnings[0]
    apart = KVD.compute(FeatureSets(features=x, fp_features=y, reference=y[:60]))
    assert apart.value == fewer.value and not apart.warnings
    assert KVD_FP.compute(FeatureSets(features=x, fp_features=y, reference=y[:0])).value == paired.value


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_measures_resampled_values_in_their_own_standard_errors(paired):
    """Against the definition: rows drawn anew, no video meeting itself, for one replicate after the other."""
    x, y = randn(12, 4), randn(12 if paired else 9, 4, seed=1) + 0.5

    def value_and_variance(rows, columns):
        n, m = len(rows), len(columns)
        xx, yy, xy = (
            (a @ b.T / 4 + 1) ** 3 for a, b in ((x[rows], x[rows]), (y[columns], y[columns]), (x[rows], y[columns]))
        )
        apart_x, apart_y = ((r[:, None] != r[None]).double() for r in (rows, columns))
        if paired:
            h = (xx + yy - xy - xy.T) * apart_x
            return h.sum() / apart_x.sum(), 4 * (h.sum(1) / (n - 1)).var() / n
        within = (xx * apart_x).sum() / apart_x.sum() + (yy * apart_y).sum() / apart_y.sum()
        by_x = (xx * apart_x).sum(1) / (n - 1) - xy.mean(1)
        by_y = (yy * apart_y).sum(1) / (m - 1) - xy.mean(0)
        return within - 2 * xy.mean(), 4 * by_x.var() / n + 4 * by_y.var() / m

    def drawn(n, seed):
        return [torch.arange(n).repeat_interleave(counts.long()) for counts in resampling_counts(n, 30, seed)]

    value, variance = value_and_variance(torch.arange(12), torch.arange(len(y)))
    rows = drawn(12, 5)
    resampled = [value_and_variance(*each) for each in zip(rows, rows if paired else drawn(9, 6), strict=True)]
    shifts = torch.stack([(other - value) / spread.sqrt() for other, spread in resampled])
    high, low = torch.quantile(shifts, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    expected = [(value - end * variance.sqrt()).item() for end in (low, high)]
    assert kernel_distance(x, y, paired, replicates=30, seed=5).interval == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:3], Y, "3 videos are too few for a kernel distance: need at least 4"),
        (X, LONGER, "paired features must have one length, got 5 and 9"),
        (X, Y[:, :2], "different extractors: 4 and 2"),
        (X, torch.full_like(Y, torch.nan), "5 of 5 videos are not finite"),
    ],
)
def test_what_has_no_distance_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(x, y, paired=True)
