"""The pruned range search makes the choice of the full one."""

import pytest
import torch

from qvd.numerics import lp_search
from qvd.numerics.affine import fake_quantize
from qvd.numerics.range_search import channel_parameters, shrink_factors
from qvd.options.rules import RangeMethod

SHAPES = {
    "gauss": lambda g: torch.randn(6, 5000, generator=g),
    "heavy": lambda g: torch.randn(6, 5000, generator=g) * torch.rand(6, 5000, generator=g).pow(-0.6),
    "one-sided": lambda g: torch.rand(6, 5000, generator=g).pow(3),
    "constant": lambda g: torch.full((6, 5000), 0.3),
    "zero": lambda g: torch.zeros(6, 5000),
}


@pytest.mark.parametrize("length", [300, 5000])
@pytest.mark.parametrize("n_bits", [2, 4, 8])
@pytest.mark.parametrize("name", SHAPES)
def test_pruned_search_chooses_like_the_full_one(name, n_bits, length, monkeypatch):
    weight = SHAPES[name](torch.Generator().manual_seed(0))[:, :length]
    pruned = channel_parameters(weight, n_bits, RangeMethod.lp)
    for limit in ("MIN_TAILED", "MIN_BINNED"):
        monkeypatch.setattr(lp_search, limit, 10**9)
    full = channel_parameters(weight, n_bits, RangeMethod.lp)
    assert torch.equal(pruned[0], full[0])
    assert torch.equal(pruned[1], full[1])


def test_search_is_the_definition_spelled_out():
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    scale, _ = channel_parameters(weight, 4, RangeMethod.lp)
    for row, found in zip(weight, scale, strict=True):
        errors = []
        for factor in shrink_factors():
            low, high = row.min() * factor, row.max() * factor
            step = (high - low) / 15
            errors.append((fake_quantize(row, step, (-low / step).round(), 4) - row).abs().pow(2.4).mean())
        best = shrink_factors()[torch.stack(errors).argmin()]
        torch.testing.assert_close(found, (row.max() - row.min()) * best / 15)


@pytest.mark.parametrize("name", SHAPES)
def test_the_bound_of_a_histogram_is_a_bound(name):
    """‖x - x̂‖ ≥ ‖c - ĉ‖ - ‖x - c‖ rests on the true distance to bin centres, never on less."""
    x = SHAPES[name](torch.Generator().manual_seed(2))
    centres, counts, slack = lp_search._histograms(x, 2.4)
    assert torch.equal(counts.sum(1), torch.full((6,), 5000.0))
    nearest = (x[:, :, None] - centres[:, None]).abs().amin(2)
    bound = nearest.pow(2.4).sum(1, keepdim=True) ** (1 / 2.4)
    assert (slack >= bound).all() and (slack <= 1.002 * bound + 1e-20).all()


def test_norms_below_one_are_searched_in_full(monkeypatch):
    """They know no triangle inequality, on which the histogram's bound rests."""
    weight = torch.randint(-3, 4, (6, 5000), generator=torch.Generator().manual_seed(0)).float()
    pruned = channel_parameters(weight, 4, RangeMethod.lp, p_norm=0.3)
    monkeypatch.setattr(lp_search, "MIN_BINNED", 10**9)
    assert torch.equal(pruned[0], channel_parameters(weight, 4, RangeMethod.lp, p_norm=0.3)[0])


def test_bounds_spare_most_of_the_work():
    x = torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
    factors = shrink_factors()

    def candidates(n_bits):
        scale = (x.amax(1) - x.amin(1))[:, None] * factors / (2**n_bits - 1)
        return x, scale, (-x.amin(1)[:, None] * factors / scale).round(), n_bits, 2.4

    everything = torch.ones(4, len(factors), dtype=torch.bool)
    assert lp_search.contenders(everything, *candidates(4)).float().mean() < 0.35
    assert lp_search.unclipped(*candidates(8)).float().mean() < 0.2
