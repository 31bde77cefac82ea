"""SCRI's search on single layers: guarded, never worse than identity on samples held out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qvd.algorithms.layerwise import LayerSettings
from qvd.algorithms.scri.objective import ScriSite, coverage, input_grid, output_error
from qvd.algorithms.scri.search import NOTHING, candidates, integrate, search
from qvd.backends.simulated import SIMULATION
from qvd.calibration.observe import FOLDS
from qvd.calibration.observers import HistogramObserver
from qvd.calibration.rows import input_rows
from qvd.graph.sites import channel_dim
from qvd.numerics.channels import IDENTITY, ChannelTransform
from qvd.numerics.grids import AffineGrid
from qvd.options.rules import RangeMethod
from qvd.options.scri import ScriMode
from qvd.spec.rules import SiteBits

SETTINGS = LayerSettings(RangeMethod.lp, RangeMethod.lp, 2.4, bias_correction=True)


def site_of(layer, bits=(8, 8), disparity=2.0, seed=0, name="layer"):
    generator = torch.Generator().manual_seed(seed)
    dim = channel_dim(layer)
    shape = (4000, 6) if dim == -1 else (8, 6, 7, 7)
    x = torch.randn(shape, generator=generator).movedim(dim, -1)
    x = x * (disparity * torch.randn(6, generator=generator)).exp() + 2 * disparity * torch.randn(
        6, generator=generator
    )
    x = x.movedim(-1, dim)
    folds = x.chunk(FOLDS)
    return site_of_folds(layer, folds, [input_rows(layer, fold, 32, generator) for fold in folds], bits, name), x


def site_of_folds(layer, inputs, rows, bits=(8, 8), name="layer"):
    observer = HistogramObserver(channel_dim(layer))
    for number, fold in enumerate(inputs):
        observer.update(fold, number)
    return ScriSite(name, layer, SiteBits(*bits, "test"), observer.result(), rows, SETTINGS)


def held_out_errors(site, candidate):
    """Fold by fold: shift, scale and ranges from the other folds' inputs, the error on this one's."""
    views = [site.held_out(fold) for fold in range(FOLDS)]
    return torch.tensor([output_error(view, candidate.transform(view.record), coarse=False) for view in views])


@given(seed=st.integers(0, 999), weight=st.sampled_from([4, 8]), activation=st.sampled_from([4, 8]), conv=st.booleans())
def test_guarded_never_loses_its_objective(seed, weight, activation, conv):
    torch.manual_seed(seed)
    layer = nn.Conv2d(6, 5, 3, padding=1) if conv else nn.Linear(6, 5)
    site, _ = site_of(layer, (weight, activation), seed=seed)
    found = search([site], ScriMode.guarded, tau_candidates=4)
    assert found.error <= found.identity_error
    assert found.identity_error == pytest.approx(held_out_errors(site, NOTHING).mean().item(), rel=1e-5)
    offered = [c for c in candidates(ScriMode.guarded, 4) if same(c.transform(site.record), found.transform)]
    if found.transform.is_identity:
        assert found.error == found.identity_error
    else:
        gains = held_out_errors(site, NOTHING) - held_out_errors(site, offered[0])
        assert gains.mean() > gains.std() / FOLDS**0.5
        assert found.error == pytest.approx(held_out_errors(site, offered[0]).mean().item(), rel=1e-5)


def same(a, b):
    return all(
        (x is None) == (y is None) and (x is None or torch.equal(x, y))
        for x, y in ((a.shift, b.shift), (a.scale, b.scale))
    )


def test_what_fits_the_samples_seen_alone_is_not_chosen():
    """A channel wakes up in one fold only: judged where it was fitted, scaling wins; on the folds held out it clips."""
    generator = torch.Generator().manual_seed(0)
    folds = [torch.randn(50, 6, generator=generator) * 0.05 for _ in range(FOLDS)]
    for number, fold in enumerate(folds):
        fold[:, number] = torch.special.ndtri(torch.linspace(0.01, 0.99, 50)) * 1.5
    torch.manual_seed(0)
    site = site_of_folds(nn.Linear(6, 5), folds, [fold[:, :, None] for fold in folds])
    site = replace(site, settings=replace(SETTINGS, activation_range=RangeMethod.minmax))
    in_sample = search([site], ScriMode.scale, tau_candidates=8)
    assert in_sample.transform.scale is not None and in_sample.error < in_sample.identity_error
    assert search([site], ScriMode.guarded, tau_candidates=8).transform.is_identity


def test_one_sample_has_nothing_to_be_judged_on():
    site, x = site_of(nn.Linear(6, 5), disparity=3.0)
    alone = site_of_folds(site.layer, [x], [torch.cat(site.folds)])
    assert search([alone], ScriMode.guarded, tau_candidates=8).transform.is_identity
    assert not search([site], ScriMode.guarded, tau_candidates=8).transform.is_identity


def test_a_held_out_layer_knows_the_other_folds_alone():
    site, x = site_of(nn.Linear(6, 5))
    view, others = site.held_out(2), torch.cat([fold for number, fold in enumerate(x.chunk(FOLDS)) if number != 2])
    assert torch.equal(view.record.channel_min, others.amin(0)) and torch.equal(view.record.channel_max, others.amax(0))
    assert (view.record.low, view.record.high) == (others.min().item(), others.max().item())
    assert torch.equal(view.rows, site.folds[2]) and len(view.seen) == len(site.rows) - len(view.rows)
    grid = input_grid(view, IDENTITY)
    assert grid.scale <= (others.max() - others.min()) / 255 * (1 + 1e-6)


@pytest.mark.parametrize("bits", [(4, 8), (4, 4)])
def test_the_coarsely_best_two_are_judged_exactly(bits):
    """Over twenty layers: the first wins in some, the second in others."""
    places = set()
    for seed in range(20):
        torch.manual_seed(seed)
        site, _ = site_of(nn.Linear(6, 5), bits, 0.5, seed)
        offered = [candidate.transform(site.record) for candidate in candidates(ScriMode.scale, 4)]
        ranked = sorted(offered, key=lambda transform: output_error(site, transform, coarse=True))
        errors = [output_error(site, transform, coarse=False) for transform in ranked[:2]]
        places.add(errors.index(min(errors)))
        found = search([site], ScriMode.scale, 4)
        identity = output_error(site, IDENTITY, coarse=False)
        assert (found.error, found.identity_error) == pytest.approx((min(errors), identity), rel=1e-5)
    assert places == {0, 1}


def test_scattered_channels_gain():
    site, _ = site_of(nn.Linear(6, 5), disparity=3.0)
    found = search([site], ScriMode.guarded, tau_candidates=8)
    assert found.error < 0.3 * found.identity_error
    before, after = (
        coverage(site, t, g) for t, g in ((IDENTITY, site.identity_grid), (found.transform, found.grids["layer"]))
    )
    assert after > before


@torch.no_grad()
def test_objective_is_the_executed_layers_error():
    layer = nn.Conv2d(6, 5, 3, padding=1)
    site, x = site_of(layer, (8, 6))
    quantized = integrate([site], None, ScriMode.paper, 6)["layer"]
    reference = layer(x) - layer.bias.view(-1, 1, 1)
    error = (SIMULATION.layer(layer, quantized)(x) - layer(x)).square().sum() / reference.square().sum()
    assert error.item() == pytest.approx(quantized.notes["scri_error"], rel=0.5)


def test_a_constant_input_keeps_its_value():
    layer = nn.Linear(6, 5)
    observer = HistogramObserver(-1)
    observer.update(torch.full((9, 6), 0.3))
    rows = torch.full((9, 6, 1), 0.3)
    site = ScriSite("layer", layer, SiteBits(8, 8, "test"), observer.result(), [rows], SETTINGS)
    assert search([site], ScriMode.paper, tau_candidates=2).error < 1e-4


def test_modes_offer_what_they_say():
    site, _ = site_of(nn.Linear(6, 5))
    offered = {mode: [c.transform(site.record) for c in candidates(mode, 3)] for mode in ScriMode}
    kinds = {mode: {(t.shift is not None, t.scale is not None) for t in offered[mode]} for mode in ScriMode}
    both = {(True, False), (True, True)}
    assert kinds[ScriMode.paper] == both
    assert kinds[ScriMode.shift] == {(True, False)}
    assert kinds[ScriMode.scale] == {(False, False), (False, True)}
    assert kinds[ScriMode.guarded] == both | {(False, True)}


def test_tau_goes_from_the_largest_extent_to_the_mean_one():
    """Channels that reach as far as 8, 2, 1 and 1: τ = 7, 6, 5, 4, 3, and no channel is ever stretched."""
    observer = HistogramObserver(-1)
    observer.update(torch.tensor([[8.0, -2.0, 1.0, 0.5], [-1.0, 0.0, 0.0, -1.0]]))
    unscaled, *scaled = (c.transform(observer.result()) for c in candidates(ScriMode.scale, 5))
    assert unscaled.is_identity
    expected = torch.tensor([[8 / 7, 1, 1, 1], [8 / 6, 1, 1, 1], [8 / 5, 1, 1, 1], [2, 1, 1, 1], [8 / 3, 1, 1, 1]])
    torch.testing.assert_close(torch.stack([transform.scale for transform in scaled]), expected)


def test_shift_is_the_centre_of_each_channel():
    observer = HistogramObserver(-1)
    observer.update(torch.tensor([[5.0, -2.0], [1.0, 6.0]]))
    shifted, *scaled = (c.transform(observer.result()) for c in candidates(ScriMode.paper, 1))
    assert shifted.shift.tolist() == [3, 2]
    # What is left reaches as far as 2 and 4, 3 in the mean.
    torch.testing.assert_close(scaled[0].scale, torch.tensor([1, 4 / 3]))


def test_group_shares_one_transform_and_off_is_identity():
    sites = [site_of(nn.Linear(6, 5), name=name)[0] for name in "qk"]
    layers = integrate(sites, "norm", ScriMode.paper, 3)
    assert torch.equal(layers["q"].shift, layers["k"].shift)
    assert layers["q"].absorbed_by == "norm"
    unchanged = integrate(sites, "norm", ScriMode.off, 3)["q"]
    assert unchanged.shift is None and unchanged.absorbed_by is None


def test_coverage_counts_distinct_levels():
    site, _ = site_of(nn.Linear(6, 5))
    site.__dict__["inputs"] = torch.tensor([[0.0], [1.0], [1.2], [3.0]]).expand(4, 6)[:, :, None]
    site.__dict__["valid"] = torch.ones(4, 1, 1, dtype=torch.bool)
    assert coverage(site, ChannelTransform(), AffineGrid(2, 1.0, 0.0)) == pytest.approx(3 / 4)
    site.__dict__["valid"][3] = False  # padding uses no level
    assert coverage(site, ChannelTransform(), AffineGrid(2, 1.0, 0.0)) == pytest.approx(2 / 4)
