"""Ranges averaged over calls, against the search and the average written out."""

from dataclasses import replace

import pytest
import torch

from qvd.algorithms.layerwise import LayerSettings
from qvd.algorithms.reduction import AveragedRange, JointRange
from qvd.numerics.affine import affine_parameters, fake_quantize
from qvd.numerics.grids import AffineGrid
from qvd.options.rules import RangeMethod

MINMAX = LayerSettings(RangeMethod.minmax, RangeMethod.minmax, 2.4, bias_correction=False)
SYMMETRIC = replace(MINMAX, symmetric_activations=True)
SEARCHED = replace(SYMMETRIC, activation_range=RangeMethod.lp, num_candidates=50)


def averaged(calls, n_bits, settings, momentum=None):
    collector = AveragedRange(n_bits, settings, momentum)
    for call in calls:
        collector.update(call)
    return collector.grid


def best_threshold(x, n_bits):
    """The symmetric search on the values themselves: 50 thresholds 1, 0.99, …, 0.51 of the largest magnitude."""
    errors, thresholds = [], []
    for i in range(50):
        threshold = (1 - 0.01 * i) * x.abs().max().item()
        levels = 2 ** (n_bits - 1) - 1 if x.min() < 0 < x.max() else 2**n_bits - 1
        zero_point = 2 ** (n_bits - 1) if x.min() < 0 < x.max() else (0 if x.min() >= 0 else 2**n_bits - 1)
        errors.append((fake_quantize(x, threshold / levels, zero_point, n_bits) - x).abs().pow(2.4).mean().item())
        thresholds.append(threshold)
    return thresholds[min(range(50), key=errors.__getitem__)]


@pytest.mark.parametrize("n_bits", [4, 6])
@pytest.mark.parametrize("sign", [None, 1, -1], ids=["both signs", "positive", "negative"])
def test_the_averaged_symmetric_search_is_the_loop_over_calls(n_bits, sign):
    """Heavy tails, so that each call clips; what takes one sign has all levels on that side."""
    generator = torch.Generator().manual_seed(0)
    calls = [torch.randn(6000, generator=generator) ** 3 * scale for scale in (1.0, 2.0, 7.0)]
    calls = calls if sign is None else [sign * call.abs() for call in calls]
    grid = averaged(calls, n_bits, SEARCHED)
    found = [best_threshold(call, n_bits) for call in calls]
    assert all(t < call.abs().max() for t, call in zip(found, calls, strict=True))
    levels = 2 ** (n_bits - 1) - 1 if sign is None else 2**n_bits - 1
    assert grid.scale * levels == pytest.approx(sum(found) / 3, rel=0.02)
    assert grid.zero_point == {None: 2 ** (n_bits - 1), 1: 0, -1: 2**n_bits - 1}[sign]


def test_the_mean_is_arithmetic_and_the_momentum_exponential():
    calls = [torch.tensor([-t, t]) for t in (1.0, 2.0, 6.0)]
    assert averaged(calls, 4, SYMMETRIC) == AffineGrid(4, pytest.approx(3 / 7), 8.0)
    expected = 0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 6
    assert averaged(calls, 4, SYMMETRIC, momentum=0.9) == AffineGrid(4, pytest.approx(expected / 7), 8.0)


def test_ends_of_asymmetric_ranges_are_averaged_apart():
    grid = averaged([torch.tensor([-1.0, 2.0]), torch.tensor([-3.0, 10.0])], 8, MINMAX)
    scale, zero_point = affine_parameters(torch.tensor(-2.0), torch.tensor(6.0), 8)
    assert (grid.scale, grid.zero_point) == pytest.approx((scale.item(), zero_point.item()))
    joint = JointRange(8, MINMAX, 64)
    for call in ([-1.0, 2.0], [-3.0, 10.0]):
        joint.update(torch.tensor(call))
    assert joint.grid.scale == pytest.approx(13 / 255)


def test_a_call_of_zeros_counts_as_an_empty_range():
    assert averaged([torch.zeros(5), torch.tensor([-7.0, 7.0])], 4, SYMMETRIC) == AffineGrid(4, 0.5, 8.0)
    assert averaged([torch.zeros(5)], 4, SYMMETRIC) == AffineGrid(4, 1.0, 0.0)


def test_thresholds_of_signed_and_unsigned_calls_are_averaged_as_values():
    """Four bits reach up to 7 steps where a call is signed and to 15 where it is not; the grid is signed then."""
    calls = [torch.tensor([-3.5, 0.0, 3.0]), torch.tensor([0.0, 7.5])]
    grid = averaged(calls, 4, SYMMETRIC, momentum=0.75)
    assert grid == AffineGrid(4, pytest.approx((0.75 * 3.5 + 0.25 * 7.5) / 7), 8.0)


def test_an_unreached_site_is_an_error():
    with pytest.raises(RuntimeError, match="never reached"):
        _ = AveragedRange(8, SYMMETRIC).grid
