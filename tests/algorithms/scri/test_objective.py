"""Groups that share a transform, and their joint objective: the attention's own output error."""

import pytest
import torch

from qvd.algorithms.layerwise import LayerSettings
from qvd.algorithms.scri.groups import transform_groups
from qvd.algorithms.scri.objective import group_error, scri_sites
from qvd.algorithms.scri.search import integrate
from qvd.backends.convert import convert
from qvd.calibration.rows import capture_rows
from qvd.graph.absorb import absorbing_norms
from qvd.graph.sites import weighted_layers
from qvd.numerics.channels import IDENTITY
from qvd.options.rules import RangeMethod
from qvd.options.scri import ScriMode
from qvd.spec.quantization import Quantization
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
    sequences = rows[QKV[0]].clone()
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
