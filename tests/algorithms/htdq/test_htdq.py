"""HTDQ: scores on known cases, and selection that never loses to uniform at equal total bits."""

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F

from qvd.algorithms.htdq.grids import TemporalChoice, candidate_grids, report, select_grid, select_grids
from qvd.algorithms.htdq.tdscore import td_scores
from qvd.numerics.grids import AffineGrid, Log2Grid, MixedGrid
from qvd.options.htdq import HtdqForm


def skewed_features(seed, timesteps=12, channels=16):
    generator = torch.Generator().manual_seed(seed)
    drift = torch.linspace(0, 1, timesteps)[:, None] * torch.randn(1, channels, generator=generator)
    return F.silu(2 * drift + torch.randn(1, channels, generator=generator).exp() - 1)


def test_scores_of_exact_features_are_one():
    scores = td_scores(skewed_features(0), skewed_features(0))
    assert (scores.td1, scores.td2, scores.td3) == (1, 1, 1)


def test_collapsed_features_score_zero():
    x = skewed_features(0)
    scores = td_scores(x, x.mean(0, keepdim=True).expand_as(x))
    assert scores.td1 == pytest.approx(0)
    assert scores.td2 == pytest.approx(1 / 12)
    assert scores.td3 == 0


def test_td1_by_hand():
    scores = td_scores(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [0.0], [2.0]]))
    assert scores.td1 == pytest.approx(1 - (1 + 0 + 1) / 4)
    assert scores.td2 == pytest.approx(2 / 3)
    assert scores.td3 == pytest.approx(0.5)


def test_equal_neighbours_and_longer_steps_count_as_preserved():
    """TD3 by hand: a step of 0 counts as 1, one that vanished as 0, one twice as long as 1."""
    features, quantized = (torch.tensor(v)[:, None] for v in ([0.0, 0.0, 1.0, 2.0], [0.0, 0.5, 0.5, 2.5]))
    scores = td_scores(features, quantized)
    assert scores.td1 == pytest.approx(1 - 3.5 / 7)
    assert scores.td2 == 1  # 0.5 lies as near to 0 as to 1
    assert scores.td3 == pytest.approx(2 / 3)


@pytest.mark.parametrize("n_bits", range(3, 9))
@settings(max_examples=settings.default.max_examples // 5)
@given(seed=st.integers(0, 10**6))
def test_selected_never_has_lower_td1_than_uniform(n_bits, seed):
    """TD1 of what the grids make of the features, not of what the selection says of itself."""
    x = skewed_features(seed)
    chosen, uniform = (select_grid(x, n_bits, form).grid for form in (HtdqForm.auto, HtdqForm.uniform))
    assert td_scores(x, chosen(x)).td1 >= td_scores(x, uniform(x)).td1 - 1e-6
    assert chosen.num_levels == 2**n_bits


def test_among_equal_scores_the_smallest_error_wins():
    """Of a feature that never changes every grid keeps all distances; one of them keeps the values too."""
    choice = select_grid(torch.tensor([[1.0, 2.0, 3.0]]).expand(4, 3), 2, HtdqForm.uniform)
    assert choice == TemporalChoice(AffineGrid(2, 1.0, 0.0), td1=1.0, mse=0.0)


@pytest.mark.parametrize("form", [f for f in HtdqForm if f not in (HtdqForm.auto, HtdqForm.off)])
def test_each_form_can_be_named(form):
    choice = select_grid(skewed_features(1), 6, form)
    assert choice.grid.form == form.value.partition("_")[0] or form in (HtdqForm.log_tau,)
    assert choice.grid.num_levels == {HtdqForm.log2: 128, HtdqForm.log2_first: 129}.get(form, 64)


def test_the_ports_maximum_is_that_of_the_first_step():
    x = torch.tensor([[0.5, -1.5], [4.0, 2.0]])
    assert select_grid(x, 4, HtdqForm.log2_first).grid == Log2Grid(4, 1.5, sign_charged=False, has_zero=True)
    assert select_grid(x, 4, HtdqForm.log2).grid == Log2Grid(4, 4.0, sign_charged=False)


def test_every_form_searches_its_own_parameter():
    """First and last candidates of features in [-0.25, 4], four bits."""
    x = torch.tensor([[-0.25, 0.1], [4.0, 2.0]], dtype=torch.float64)
    found = {form: candidate_grids(x, 4, form) for form in HtdqForm if form is not HtdqForm.off}
    mixed, log_tau, power, uniform = (found[HtdqForm[f]] for f in ("mixed", "log_tau", "power", "uniform"))
    assert [g.edge for g in mixed] == pytest.approx([0.5 + 3.5 * i / 101 for i in range(101)])
    assert {g.maximum for g in mixed + log_tau + found[HtdqForm.log2]} == {4}
    # The smallest magnitude lies 1, 1.25, …, 16 octaves below the largest.
    assert [7 / g.tau for g in log_tau] == pytest.approx([1 + 0.25 * i for i in range(61)])
    assert [g.power for g in power] == pytest.approx([*(0.1 + 0.02 * i for i in range(45)), 1])
    assert (power[20].scale, power[20].zero_point) == pytest.approx(((2 + 0.5) / 15, 3))
    assert [g.scale for g in uniform] == pytest.approx([4.25 / 15 * (1 - 0.01 * i) for i in range(80)], rel=1e-5)
    assert [g.sign_charged for form in ("log2", "log2_charged") for g in found[HtdqForm[form]]] == [False, True]
    assert len(found[HtdqForm.auto]) == 80 + 46 + 61 + 101 + 1


def test_edges_begin_at_half_of_a_small_maximum():
    edges = [g.edge for g in candidate_grids(torch.tensor([[0.4], [-0.1]]).double(), 4, HtdqForm.mixed)]
    assert edges[0] == pytest.approx(0.2) and max(edges) < 0.4


def test_auto_leaves_out_what_does_not_fit_in_the_bits():
    assert all(g.num_levels == 16 for g in candidate_grids(skewed_features(2).double(), 4, HtdqForm.auto))


def test_all_zero_feature_is_harmless():
    assert torch.isfinite(select_grid(torch.zeros(4, 8), 4).grid(torch.zeros(4, 8))).all()


def test_report_and_shared_search():
    x = skewed_features(3)
    sites = select_grids({"a": x, "b": x.clone(), "c": x, "d": x}, {"a": 4, "b": 4, "c": 8, "d": None}, HtdqForm.auto)
    assert set(sites) == {"a", "b", "c"}
    assert sites["a"][0] is sites["b"][0]
    notes = sites["a"][1]
    assert notes["td1"] >= notes["td1_uniform"]
    uniform = report(x, select_grid(x, 4, HtdqForm.uniform).grid)
    assert {key.removesuffix("_uniform"): value for key, value in notes.items() if "_uniform" in key} == uniform
    assert sites["c"][0].n_bits == 8


def test_report_by_hand():
    x = torch.tensor([[0.0, 1.0], [1.0, 5.0], [2.0, 1.0]])
    notes = report(x, AffineGrid(2, 1.0, 0.0))
    assert notes["relative_mse"] == pytest.approx((5 - 3) ** 2 / 32)
    assert notes["skewness"] == pytest.approx(scipy.stats.skew(x.flatten().numpy()))
    assert notes["distinct_codes"] == (3 + 2) / 2
    assert notes["smallest_level"] == 0
    assert report(x, MixedGrid(4, edge=0.5, maximum=4.5))["smallest_level"] == 0.0625


@pytest.mark.parametrize("form", [form for form in HtdqForm if form is not HtdqForm.off])
def test_candidates_are_searched_on_the_features_device(form):
    """Fake tensors say where they lie without a GPU: only their values are missing, never a device."""
    with FakeTensorMode():
        features = torch.empty(10, 4, device="cuda", dtype=torch.float64)
        with pytest.raises(DataDependentOutputException):
            candidate_grids(features, 8, form)
