"""The Fréchet core against closed forms, independent implementations and its own identities."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from metrics.frechet import (
    FeatureStatistics,
    frechet_distance,
    frechet_from_statistics,
    frechet_infinity,
    trace_sqrt_from_covariances,
    trace_sqrt_from_deviations,
)
from metrics.intervals import bootstrap_distances, bootstrap_interval, resampling_counts


def gaussian(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def scipy_frechet(a, b):
    """The formula as pytorch-fid writes it, on numpy and scipy's Schur square root."""
    a, b = a.numpy(), b.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root))


@pytest.mark.parametrize("n", [30, 200], ids=["nuclear", "eigh"])
class TestClosedForms:
    """Exact for any sample, because the transformed set is built from the sample itself."""

    d = 48

    def test_identity_is_zero(self, n):
        x = gaussian(n, self.d, 0)
        assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)

    def test_shift_is_squared_distance_of_means(self, n):
        x = gaussian(n, self.d, 0)
        assert frechet_distance(x, x + 0.5) == pytest.approx(0.25 * self.d, rel=1e-6)

    def test_scale_is_trace_times_square(self, n):
        x = gaussian(n, self.d, 0)
        x = x - x.mean(0)
        trace = FeatureStatistics.from_features(x).covariance.trace()
        assert frechet_distance(x, 3 * x) == pytest.approx(4 * float(trace), rel=1e-6)

    def test_symmetry(self, n):
        a, b = gaussian(n, self.d, 0), gaussian(n + 7, self.d, 1) * 2
        assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-8)

    def test_rotation_invariance(self, n):
        a, b = gaussian(n, self.d, 0), gaussian(n, self.d, 1) * torch.linspace(0.1, 2, self.d)
        rotation = torch.linalg.qr(gaussian(self.d, self.d, 2)).Q
        assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_equals_scipy_with_many_samples():
    a, b = gaussian(200, 64, 0), gaussian(150, 64, 1) * torch.linspace(0.1, 3, 64) + 0.3
    assert frechet_distance(a, b) == pytest.approx(scipy_frechet(a, b), rel=1e-6)


def test_equals_scipy_at_low_rank():
    a, b = gaussian(30, 64, 0), gaussian(40, 64, 1, shift=0.3)
    assert frechet_distance(a, b) == pytest.approx(scipy_frechet(a, b), abs=1e-4)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 35), (35, 300)])
def test_eigh_equals_nuclear_norm_at_low_rank(n, m):
    a, b = (x - x.mean(0) for x in (gaussian(n, 64, 0), gaussian(m, 64, 1)))
    by_eigh = trace_sqrt_from_covariances(a.T @ a, b.T @ b)
    assert float(by_eigh) == pytest.approx(float(trace_sqrt_from_deviations(a, b)), abs=1e-4)


def test_streaming_equals_batch():
    x = gaussian(103, 16, 0, shift=1e4)
    streamed = FeatureStatistics.from_features(x[:10])
    for batch in x[10:].split(10):
        streamed = streamed.update(batch)
    whole = FeatureStatistics.from_features(x)
    torch.testing.assert_close(streamed.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(streamed.covariance, whole.covariance, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(whole.covariance, torch.cov(x.T), rtol=1e-8, atol=1e-9)


@given(order=st.permutations(range(5)), cuts=st.lists(st.integers(1, 59), min_size=4, max_size=4, unique=True))
def test_merge_order_does_not_matter(order, cuts):
    x, reference = gaussian(60, 8, 0), FeatureStatistics.from_features(gaussian(40, 8, 1, shift=0.2))
    parts = [FeatureStatistics.from_features(p) for p in x.tensor_split(sorted(cuts))]
    merged = parts[order[0]]
    for i in order[1:]:
        merged = merged.merge(parts[i])
    expected = frechet_from_statistics(FeatureStatistics.from_features(x), reference)
    assert frechet_from_statistics(merged, reference) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("n", "published", "repeats"), [(101, 153, 4), (256, 83.7, 4), (1024, 21.3, 2), (2048, 10.6, 2), (10_000, 2.2, 1)]
)
def test_bias_of_two_samples_of_one_gaussian(n, published, repeats):
    """The bias table at D = 400, trace 400, reproduced by a spectrum falling as i^-1.2."""
    spectrum = torch.arange(1, 401, dtype=torch.float64) ** -1.2
    scale = (spectrum * 400 / spectrum.sum()).sqrt()
    pairs = [(gaussian(n, 400, 2 * s) * scale, gaussian(n, 400, 2 * s + 1) * scale) for s in range(repeats)]
    assert np.mean([frechet_distance(a, b) for a, b in pairs]) == pytest.approx(published, rel=0.05)


def test_infinity_recovers_the_true_distance():
    a, b = gaussian(1500, 64, 0), gaussian(1500, 64, 1, shift=0.5)
    fit = frechet_infinity(a, b)
    assert frechet_distance(a, b) > 17.2
    assert fit.value == pytest.approx(16, abs=1)
    assert fit.r_squared > 0.98
    assert fit.sizes == (1500, 750, 500, 375)
    assert frechet_infinity(a, b) == fit


def test_infinity_uses_no_parts_smaller_than_the_dimension():
    """At N = 2D, four parts would give about 8.4 instead of 4."""
    fits = [frechet_infinity(gaussian(128, 64, 2 * s), gaussian(128, 64, 2 * s + 1, shift=0.25)) for s in range(4)]
    assert {fit.sizes for fit in fits} == {(128, 64)}
    assert np.mean([fit.value for fit in fits]) == pytest.approx(4, abs=1)


def test_the_infinity_fit_is_the_line_through_its_distances():
    a, b = gaussian(90, 6, 0), gaussian(120, 6, 1, shift=0.5)
    fit = frechet_infinity(a, b, max_splits=3, repeats=2)
    assert fit.sizes == (90, 45, 30)
    assert fit.distances[0] == pytest.approx(frechet_distance(a, b))
    line = scipy.stats.linregress([1 / n for n in fit.sizes], fit.distances)
    assert (fit.value, fit.slope, fit.r_squared) == pytest.approx((line.intercept, line.slope, line.rvalue**2))


def test_seeds_and_repeats_choose_the_parts():
    a, b = gaussian(40, 6, 0), gaussian(40, 6, 1)
    values = {frechet_infinity(a, b, repeats=r, seed=s).value for r in (1, 8) for s in (0, 1)}
    assert len(values) == 4


def test_bootstrap_replicates_are_exact():
    for n in (25, 90):
        x, y = gaussian(n, 32, 0), gaussian(70, 32, 1, shift=0.2)
        counts = resampling_counts(n, 5, seed=3)
        expected = [
            frechet_from_statistics(
                FeatureStatistics.from_features(x.repeat_interleave(c.long(), 0)), FeatureStatistics.from_features(y)
            )
            for c in counts
        ]
        assert bootstrap_distances(x, y, replicates=5, seed=3).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_bootstrap_interval_is_the_basic_one(level):
    """Deviations of the replicates from their own mean, turned around."""
    x, y = gaussian(40, 4, 0), gaussian(60, 4, 1, shift=0.3)
    deviations = bootstrap_distances(x, y, 100, seed=2).numpy()
    low, high = np.quantile(deviations - deviations.mean(), [(1 - level) / 2, (1 + level) / 2])
    distance = frechet_distance(x, y)
    interval = bootstrap_interval(x, y, level=level, replicates=100, seed=2)
    assert interval == pytest.approx((distance - high, distance - low))


def test_bootstrap_interval_covers_the_expectation():
    """Of 60 experiments with one reference, the 90 % interval should hold the mean distance about 54 times."""
    reference = gaussian(400, 8, 999)
    samples = [gaussian(100, 8, seed, shift=0.3) for seed in range(60)]
    expectation = np.mean([frechet_distance(x, reference) for x in samples])
    intervals = [bootstrap_interval(x, reference, level=0.9, replicates=200, seed=i) for i, x in enumerate(samples)]
    assert 48 <= sum(low <= expectation <= high for low, high in intervals) <= 59


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(4, 2), "3 and 2 dimensions"),
        (torch.zeros(1, 3), torch.zeros(4, 3), "1 videos are too few"),
        (torch.zeros(3), torch.zeros(4, 3), "got shape"),
        (torch.full((4, 3), float("nan")), torch.zeros(4, 3), "4 of 4 videos are not finite"),
    ],
)
def test_errors_say_what_is_wrong(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def test_too_few_to_extrapolate():
    with pytest.raises(ValueError, match=r"3 videos are too few .* need 4"):
        frechet_infinity(gaussian(3, 3, 0), gaussian(9, 3, 1))


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 videos, got 1"):
        _ = FeatureStatistics.from_features(torch.zeros(1, 3)).covariance
