"""SCRI's search on single layers: never worse than identity when guarded, better where channels differ."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qvd.algorithms.layerwise import LayerSettings
from qvd.algorithms.scri.objective import ScriSite, coverage, output_error
from qvd.algorithms.scri.search import candidate_transforms, integrate, search
from qvd.backends.simulated import SIMULATION
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
    shape = (200, 6) if dim == -1 else (8, 6, 7, 7)
    x = torch.randn(shape, generator=generator).movedim(dim, -1)
    x = x * (disparity * torch.randn(6, generator=generator)).exp() + 2 * disparity * torch.randn(
        6, generator=generator
    )
    x = x.movedim(-1, dim)
    observer = HistogramObserver(dim)
    observer.update(x)
    rows = input_rows(layer, x, 128, generator)
    return ScriSite(name, layer, SiteBits(*bits, "test"), observer.result(), rows, SETTINGS), x


@given(seed=st.integers(0, 999), weight=st.sampled_from([4, 8]), activation=st.sampled_from([4, 8]), conv=st.booleans())
def test_guarded_never_loses_its_objective(seed, weight, activation, conv):
    torch.manual_seed(seed)
    layer = nn.Conv2d(6, 5, 3, padding=1) if conv else nn.Linear(6, 5)
    site, _ = site_of(layer, (weight, activation), seed=seed)
    found = search([site], ScriMode.guarded, tau_candidates=4)
    assert found.error <= found.identity_error
    assert found.error == pytest.approx(output_error(site, found.transform, coarse=False), rel=1e-5)


@pytest.mark.parametrize(("bits", "disparity", "seed", "winner"), [((4, 8), 0.2, 15, 0), ((4, 8), 0.5, 9, 2)])
def test_identity_and_the_coarsely_best_two_are_judged_exactly(bits, disparity, seed, winner):
    """Cases where the identity, which came third, or the second of the two turns out the best."""
    torch.manual_seed(seed)
    site, _ = site_of(nn.Linear(6, 5), bits, disparity, seed)
    candidates = candidate_transforms(site.record, ScriMode.guarded, 4)
    ranked = sorted(candidates, key=lambda transform: output_error(site, transform, coarse=True))
    errors = [output_error(site, transform, coarse=False) for transform in (IDENTITY, *ranked[:2])]
    assert errors.index(min(errors)) == winner
    found = search([site], ScriMode.guarded, 4)
    assert (found.error, found.identity_error) == pytest.approx((errors[winner], errors[0]), rel=1e-5)


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
    site = ScriSite("layer", layer, SiteBits(8, 8, "test"), observer.result(), rows, SETTINGS)
    assert search([site], ScriMode.paper, tau_candidates=2).error < 1e-4


def test_modes_offer_what_they_say():
    site, _ = site_of(nn.Linear(6, 5))
    kinds = {
        mode: {(t.shift is not None, t.scale is not None) for t in candidate_transforms(site.record, mode, 3)}
        for mode in ScriMode
    }
    both = {(True, False), (True, True)}
    assert kinds[ScriMode.paper] == both
    assert kinds[ScriMode.shift] == {(True, False)}
    assert kinds[ScriMode.scale] == {(False, False), (False, True)}
    assert kinds[ScriMode.guarded] == both | kinds[ScriMode.scale]


def test_tau_goes_from_the_largest_extent_to_the_mean_one():
    """Channels that reach as far as 8, 2, 1 and 1: τ = 7, 6, 5, 4, 3, and no channel is ever stretched."""
    observer = HistogramObserver(-1)
    observer.update(torch.tensor([[8.0, -2.0, 1.0, 0.5], [-1.0, 0.0, 0.0, -1.0]]))
    unscaled, *scaled = candidate_transforms(observer.result(), ScriMode.scale, 5)
    assert unscaled.is_identity
    expected = torch.tensor([[8 / 7, 1, 1, 1], [8 / 6, 1, 1, 1], [8 / 5, 1, 1, 1], [2, 1, 1, 1], [8 / 3, 1, 1, 1]])
    torch.testing.assert_close(torch.stack([transform.scale for transform in scaled]), expected)


def test_shift_is_the_centre_of_each_channel():
    observer = HistogramObserver(-1)
    observer.update(torch.tensor([[5.0, -2.0], [1.0, 6.0]]))
    shifted, *scaled = candidate_transforms(observer.result(), ScriMode.paper, 1)
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
