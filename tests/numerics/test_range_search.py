"""The range search against its definition, one candidate after the other, with each of its options."""

import pytest
import torch

from qvd.numerics.range_search import channel_parameters, histogram_parameters, shrink_factors, thresholds
from qvd.options.rules import RangeMethod

OPTIONS = [{}, {"p_norm": 0.7}, {"p_norm": 8.0}, {"symmetric": True}, {"factors": thresholds(3)}]
# With an outlier, whose clipping costs more or less by the norm.
VALUES = torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(0)), torch.tensor([40.0])])


def searched(values, counts, low, high, n_bits, p_norm=2.4, symmetric=False, factors=None):
    """(scale, zero point) of the least Σ counts·|x - x̂|^p."""
    best, chosen = torch.inf, None
    for factor in (shrink_factors() if factors is None else factors).tolist():
        if symmetric:
            scale, zero_point = max(-low, high) * factor / (2 ** (n_bits - 1) - 1), 2 ** (n_bits - 1)
        else:
            scale = (high - low) * factor / (2**n_bits - 1)
            zero_point = round(-low * factor / scale)
        x_hat = (((values / scale).round() + zero_point).clamp(0, 2**n_bits - 1) - zero_point) * scale
        error = (counts * (x_hat - values).abs() ** p_norm).sum().item()
        if error < best:
            best, chosen = error, (scale, zero_point)
    return chosen


@pytest.mark.parametrize("options", OPTIONS, ids=",".join)
def test_weights_search_is_the_definition(options):
    low, high = VALUES.min().item(), VALUES.max().item()
    scale, zero_point = channel_parameters(VALUES[None], 4, RangeMethod.lp, **options)
    assert (scale.item(), zero_point.item()) == pytest.approx(
        searched(VALUES.double(), torch.ones(1), low, high, 4, **options), rel=1e-5
    )
    assert bool(options) == (scale != channel_parameters(VALUES[None], 4, RangeMethod.lp)[0]).item()


@pytest.mark.parametrize("options", OPTIONS, ids=",".join)
def test_histograms_search_is_the_definition(options):
    low, high = VALUES.min().item(), VALUES.max().item()
    counts = torch.histc(VALUES, 256, low, high).double()
    centres = low + (high - low) / 256 * (torch.arange(256) + 0.5)
    found = histogram_parameters(counts, low, high, 4, RangeMethod.lp, **options)
    assert found == pytest.approx(searched(centres.double(), counts, low, high, 4, **options), rel=1e-5)
    assert bool(options) == (found != histogram_parameters(counts, low, high, 4, RangeMethod.lp))


def test_values_of_a_bin_stand_at_its_centre():
    """1, in the only bin of [0, 2], is a level of the range shrunken to [0, 1.5]."""
    assert histogram_parameters(torch.tensor([7.0]).double(), 0.0, 2.0, 2, RangeMethod.lp) == (0.5, 0)


def test_fewer_candidates_span_the_same_ranges():
    torch.testing.assert_close(shrink_factors(4), torch.tensor([1.0, 0.8, 0.6, 0.4]))
    assert shrink_factors()[-1].item() == pytest.approx(0.21)
    assert thresholds(100)[-1].item() == pytest.approx(0.01, rel=1e-4)
    # 1 lies next to a level of [0, 1.6]; what is exact, [0, 1.5], is not on offer.
    few = histogram_parameters(torch.ones(1).double(), 0.0, 2.0, 2, RangeMethod.lp, factors=shrink_factors(4))
    assert few == (pytest.approx(1.6 / 3), 0)


@pytest.mark.parametrize("symmetric", [False, True])
def test_minmax_takes_the_extremes(symmetric):
    expected = (9 / 7, 8) if symmetric else (12 / 15, 4)
    assert histogram_parameters(
        torch.ones(4).double(), -3.0, 9.0, 4, RangeMethod.minmax, symmetric=symmetric
    ) == pytest.approx(expected)
    weight = torch.tensor([[-3.0, 0.0, 9.0], [1.0, -9.0, 3.0]])
    scale, zero_point = channel_parameters(weight, 4, RangeMethod.minmax, symmetric=symmetric)
    torch.testing.assert_close(scale, torch.full((2,), expected[0]))
    assert zero_point.tolist() == ([8, 8] if symmetric else [4, 11])
