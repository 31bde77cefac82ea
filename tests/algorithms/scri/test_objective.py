"""Groups that share a transform, and their joint objective: the attention's own output error."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer
from qvd.algorithms.scri.groups import transform_groups
from qvd.algorithms.scri.objective import (
    SAMPLE_BINS,
    AttentionShape,
    ScriSite,
    group_error,
    input_grid,
    output_error,
    quantized_output,
    scri_sites,
    with_bias,
)
from qvd.algorithms.scri.search import integrate
from qvd.backends.convert import convert
from qvd.backends.simulated import SIMULATION
from qvd.calibration.observers import HistogramObserver
from qvd.calibration.rows import capture_rows, receptive_fields
from qvd.graph.absorb import absorbing_norms
from qvd.graph.sites import weighted_layers
from qvd.numerics.channels import IDENTITY, ChannelTransform
from qvd.numerics.range_search import histogram_parameters, shrink_factors
from qvd.options.rules import RangeMethod
from qvd.options.scri import ScriMode
from qvd.spec.quantization import Quantization, quantize_weight
from qvd.spec.rules import SiteBits

SETTINGS = LayerSettings(RangeMethod.lp, RangeMethod.lp, 2.4, bias_correction=True)
BLOCK = "mid_block.attentions.0.transformer_blocks.0"
QKV = [f"{BLOCK}.attn1.to_{x}" for x in "qkv"]


@pytest.fixture(scope="module")
def groups(unet, calibration):
    return transform_groups(unet, weighted_layers(unet), absorbing_norms(unet, calibration.take([0])))


def test_self_attention_is_one_group_behind_its_norm(groups):
    (group,) = (g for g in groups if QKV[0] in g.members)
    assert (group.members, group.norm, group.heads) == (QKV, f"{BLOCK}.norm1", 8)


def test_cross_attention_reads_two_tensors(groups):
    members = {name: group for group in groups for name in group.members}
    query, key = members[f"{BLOCK}.attn2.to_q"], members[f"{BLOCK}.attn2.to_k"]
    assert query is not key and query.heads is None and key.norm is None


def test_every_layer_is_in_exactly_one_group(groups, unet):
    assert sorted(name for group in groups for name in group.members) == sorted(weighted_layers(unet))


def test_without_a_norm_the_attention_still_groups(unet):
    (group,) = transform_groups(unet, QKV, {})
    assert group.members == QKV and group.norm is None and group.heads == 8


def test_a_norm_absorbs_only_if_all_its_readers_take_part(unet, groups):
    absorbing = {f"{BLOCK}.norm1": QKV}
    assert {g.norm for g in transform_groups(unet, QKV[:2], absorbing)} == {None}


@torch.no_grad()
def test_joint_objective_is_the_attentions_output_error(unet, calibration, ranges, groups):
    """Against diffusers' own attention with the three layers converted, on the same captured sequences."""
    (group,) = (g for g in groups if QKV[0] in g.members)
    rows = capture_rows(unet, QKV, calibration, 128, 4, sequences=QKV)
    sequences = torch.cat(rows[QKV[0]])
    layers = weighted_layers(unet)
    plan = {name: SiteBits(6, 6, "test") for name in QKV}
    sites = scri_sites(group, layers, plan, ranges, rows, SETTINGS)
    assert rows == {} and sequences.shape[1] * len(sequences) == len(sites[0].rows)
    quantization = Quantization(integrate(sites, None, ScriMode.off, 1), {})
    attention, quantized = (m.get_submodule(f"{BLOCK}.attn1") for m in (unet, convert(unet, quantization)))
    outputs = []
    for attn in (attention, quantized):
        projections = (attn.get_submodule(name)(sequences) for name in ("to_q", "to_k", "to_v"))
        q, k, v = (x.unflatten(-1, (8, -1)).transpose(1, 2) for x in projections)
        outputs.append((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v)
    expected = (outputs[1] - outputs[0]).square().sum() / outputs[0].square().sum()
    assert group_error(sites, IDENTITY, coarse=False) == pytest.approx(expected.item(), rel=1e-3)


def site(layer, rows, settings=SETTINGS, name="layer", bits=(4, 4), attention=None):
    """A layer whose inputs were the valid entries of `rows` (n, in_channels, taps), NaN on the padding."""
    observer = HistogramObserver(-1)
    observer.update(rows.movedim(1, -1)[~rows[:, 0].isnan()])
    return ScriSite(name, layer, SiteBits(*bits, "test"), observer.result(), [rows], settings, attention)


def skewed_rows(taps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(300, 3, taps, generator=generator).pow(3) + torch.tensor([[6.0], [0.0], [-2.0]])
    return rows.masked_fill(torch.rand(300, 1, taps, generator=generator) < 0.4, torch.nan) if taps > 1 else rows


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("changed", [{}, {"p_norm": 8.0}, {"activation_range": RangeMethod.minmax}], ids=str)
def test_grid_of_a_transformed_input_is_searched_on_its_data_alone(changed, coarse):
    """Without the padding, over the channels' exact extremes, with the method's own range and norm."""
    settings = replace(SETTINGS, **changed)
    conv = site(nn.Conv2d(3, 4, 3, padding=1), skewed_rows(9), settings)
    transform = ChannelTransform(torch.tensor([6.0, 0.0, -2.0]), torch.tensor([1.0, 4.0, 2.0]))
    values = transform(conv.rows, 1)[conv.valid.expand_as(conv.rows)]
    low, high = values.min().item(), values.max().item()
    counts = torch.histc(values, SAMPLE_BINS, low, high).double()
    options = {"p_norm": settings.p_norm, "factors": shrink_factors(16 if coarse else 80)}
    expected = histogram_parameters(counts, low, high, 4, settings.activation_range, **options)
    grid = input_grid(conv, transform, coarse)
    assert (grid.scale, grid.zero_point) == pytest.approx(expected, rel=1e-5)
    assert grid.n_bits == 4


def test_layers_without_an_attention_add_their_errors():
    sites = [site(nn.Linear(3, 4), skewed_rows(1, seed), name=str(seed)) for seed in range(2)]
    assert group_error(sites, IDENTITY, False) == sum(output_error(s, IDENTITY, False) for s in sites)


def test_every_scale_has_a_weight_of_its_own():
    linear = site(nn.Linear(3, 4), skewed_rows(1))
    scale = torch.tensor([1.0, 5.0, 0.2])
    plain, folded = linear.final_weight(None), linear.final_weight(scale)
    expected = quantize_weight(linear.layer.weight * scale, 4, RangeMethod.lp)
    assert torch.equal(folded.codes, expected.codes) and torch.equal(folded.scale, expected.scale)
    assert torch.equal(plain.codes, quantize_weight(linear.layer.weight, 4, RangeMethod.lp).codes)
    assert linear.final_weight(scale) is folded


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 4), (60, 3)),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 9, 8)),
        (nn.Conv3d(3, 4, (3, 1, 1), padding=(1, 0, 0), bias=False), (1, 3, 6, 4, 4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("bits", [(4, 4), (None, 6)], ids=str)
@pytest.mark.parametrize("border_correction", [True, False])
@torch.no_grad()
def test_on_all_receptive_fields_the_output_is_the_executed_layers(layer, shape, bits, border_correction):
    """Shift, scale, bias correction and borders included."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
    if isinstance(layer, nn.Linear):
        rows = x[:, :, None]
    else:
        rank = len(layer.kernel_size)
        rows = receptive_fields(layer, x, torch.nan).movedim(1, 1 + rank).flatten(2 + rank).flatten(0, rank)
    settings = replace(SETTINGS, border_correction=border_correction)
    whole = site(layer, rows, settings, bits=bits)
    transform = ChannelTransform(torch.tensor([2.0, 0.0, -2.0]), torch.tensor([1.0, 4.0, 2.0]))
    grid = input_grid(whole, transform)
    choice = LayerChoice(transform, grid=grid)
    quantization = quantize_layer("layer", layer, whole.bits, whole.record, settings, choice)
    output = SIMULATION.layer(layer, quantization)(x).movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(
        with_bias(whole, quantized_output(whole, transform, coarse=False)), output, rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_joint_objective_counts_the_projections_biases():
    """Against softmax attention on what the three quantized layers give, biases included."""
    rows = skewed_rows(1)
    sites = [
        site(nn.Linear(3, 4), rows, name=f"attn.to_{x}", attention=AttentionShape(heads=2, length=10)) for x in "qkv"
    ]
    layers = integrate(sites, None, ScriMode.off, 1)
    outputs = []
    for modules in ([s.layer for s in sites], [SIMULATION.layer(s.layer, layers[s.name]) for s in sites]):
        q, k, v = (module(rows[..., 0]).view(30, 10, 2, 2).transpose(1, 2) for module in modules)
        outputs.append((q @ k.transpose(2, 3) / 2**0.5).softmax(-1) @ v)
    expected = (outputs[1] - outputs[0]).square().sum() / outputs[0].square().sum()
    assert group_error(sites, IDENTITY, coarse=False) == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "grouped"), [({}, True), ({"qk_norm": "layer_norm"}, False), ({"cross_attention_dim": 16}, False)]
)
def test_projections_group_where_they_alone_make_the_output(options, grouped):
    model = nn.ModuleDict({"attn": Attention(16, heads=2, dim_head=8, **options)})
    names = [f"attn.to_{x}" for x in "qkv"]
    members = [group.members for group in transform_groups(model, names, {})]
    assert members == ([names] if grouped else [[name] for name in names])


def test_part_of_an_attention_shares_a_transform_without_its_objective():
    model = nn.ModuleDict({"attn": Attention(16, heads=2, dim_head=8)})
    (group,) = transform_groups(
        model, [f"attn.to_{x}" for x in "qkv"], {"norm": ["attn.to_q", "attn.to_k", "attn.to_v"]}
    )
    assert (group.norm, group.heads) == ("norm", 2)
    names = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"]
    (group,) = transform_groups(model, names, {"norm": names})
    assert (group.members, group.heads) == (names, None)
