"""SmoothQuant and ViDiT-Q: the migration formula, its exact fold, who absorbs it, and grids per token."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from baselines.smoothquant import SmoothQuant
from baselines.vidit_q import ViDiTQ
from experiments.config.nodes import build_node
from qvd.algorithms.balance import channel_scale
from qvd.backends.convert import convert
from qvd.calibration.observers import HistogramObserver
from qvd.graph.sites import weighted_layers
from qvd.numerics.grids import TokenGrid
from qvd.options.rules import ActivationGranularity, LayerRule
from qvd.spec.quantization import Quantization
from tests.tiny_unet import context_of

CONF = Path(__file__).parents[2] / "conf" / "quantizer"
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def quantize(method, unet, ranges, calibration, adapter, bits="w8a8"):
    context = context_of(adapter, unet, bits, torch.arange(10))
    return method.run(unet, ranges, calibration, context)


@pytest.fixture(scope="module")
def smooth(unet, ranges, calibration, adapter):
    return quantize(SmoothQuant(), unet, ranges, calibration, adapter)


@pytest.fixture(scope="module")
def vidit(unet, ranges, calibration, adapter):
    return quantize(ViDiTQ(), unet, ranges, calibration, adapter)


@torch.no_grad()
def relative_error(unet, quantization, calibration):
    entry = calibration.take([0, 1])
    reference = unet(**entry).sample
    return ((convert(unet, quantization)(**entry).sample - reference).norm() / reference.norm()).item()


def test_scales_are_the_papers_formula(unet, smooth, ranges):
    readers = [f"{BLOCK}.attn1.to_{x}" for x in "qkv"]
    weight = torch.cat([unet.get_submodule(name).weight for name in readers]).abs().amax(0)
    record = ranges[readers[0]]
    activation = torch.maximum(record.channel_max.abs(), record.channel_min.abs())
    for name in readers:
        assert smooth.layers[name].absorbed_by == f"{BLOCK}.norm1"
        torch.testing.assert_close(smooth.layers[name].scale, activation**0.5 / weight**0.5)
    conv = smooth.layers["down_blocks.0.temp_convs.0.conv1.2"]
    assert conv.absorbed_by is None and conv.scale is not None


@pytest.mark.parametrize("bits", ["w4a6", "w8a6"])
def test_first_and_last_layer_keep_eight_bit_weights(unet, adapter, bits):
    plan = SmoothQuant().site_bits(unet, context_of(adapter, unet, bits, torch.arange(10)))
    assert {plan[name].weight for name in ("conv_in", "conv_out")} == {8}
    assert {plan[name].activation for name in ("conv_in", "conv_out")} == {6}


def test_half_migration_makes_activations_and_weights_alike(unet, smooth, ranges):
    """At α = 0.5 each channel of X'' and of W'' has the same maximum, √(max|X_j|·max|W_j|)."""
    name = f"{BLOCK}.attn2.to_q"
    layer, scale = unet.get_submodule(name), smooth.layers[name].scale
    record = ranges[name]
    activation = torch.maximum(record.channel_max.abs(), record.channel_min.abs()) / scale
    torch.testing.assert_close(activation, layer.weight.abs().amax(0) * scale)


def test_migration_strength_weighs_activations_against_weights():
    """s = max|X|^α / max|W|^(1 - α), W of all readers, at α = 3/4: 16^¾/16^¼, 81^¾/16^¼ and 1/256^¼."""
    observer = HistogramObserver(-1)
    observer.update(torch.tensor([[16.0, 0.0, 1.0], [-3.0, -81.0, 0.5]]))
    readers = [torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)]
    readers[0].weight.data = torch.tensor([[16.0, 2.0, 3.0]])
    readers[1].weight.data = torch.tensor([[1.0, -16.0, 256.0]])
    scale = channel_scale(observer.result(), readers, 0.75)
    torch.testing.assert_close(scale, torch.tensor([4.0, 13.5, 0.25]))


@pytest.mark.parametrize("method", [SmoothQuant, ViDiTQ])
def test_the_alpha_option_is_the_scales(method, unet, ranges, calibration, adapter):
    name = f"{BLOCK}.attn2.to_q"
    scale = quantize(method(alpha=0.9, only=[name]), unet, ranges, calibration, adapter).layers[name].scale
    record = ranges[name]
    activation = torch.maximum(record.channel_max.abs(), record.channel_min.abs())
    torch.testing.assert_close(scale, activation**0.9 / unet.get_submodule(name).weight.abs().amax(0) ** 0.1)


def test_channels_without_data_are_left_alone(ranges):
    record = ranges[f"{BLOCK}.attn2.to_q"]
    dead = replace(record, channel_min=record.channel_min.clone(), channel_max=record.channel_max.clone())
    dead.channel_min[3] = dead.channel_max[3] = 0
    layer = torch.nn.Linear(len(record.channel_min), 4)
    layer.weight.data[:, 5] = 0
    scale = channel_scale(dead, [layer], 0.5)
    assert scale[3] == scale[5] == 1 and scale.isfinite().all()


@pytest.mark.parametrize("method", [SmoothQuant(), ViDiTQ()], ids=lambda m: m.name)
def test_fold_is_exact_in_floating_point(method, unet, ranges, calibration, adapter):
    quantization = quantize(method, unet, ranges, calibration, adapter)
    layers = {n: replace(q, weight=None, grid=None) for n, q in quantization.layers.items()}
    assert sum(layer.absorbed_by is not None for layer in layers.values()) > 20
    assert relative_error(unet, Quantization(layers, {}), calibration) < 1e-5


def test_smoothquant_is_symmetric_and_covers_every_layer(unet, smooth, ranges):
    assert all(layer.scale is not None for layer in smooth.layers.values())
    assert all((layer.weight.zero_point == 128).all() for layer in smooth.layers.values())
    assert {layer.grid.zero_point for n, layer in smooth.layers.items() if ranges[n].low < 0} == {128}


def test_range_of_the_balanced_input_is_that_of_its_channels(smooth, ranges):
    layer, record = smooth.layers["conv_in"], ranges["conv_in"]
    extreme = torch.maximum(record.channel_max / layer.scale, -record.channel_min / layer.scale).max()
    assert layer.grid.scale * 127 == pytest.approx(extreme.item(), rel=1e-5)


def test_vidit_takes_ranges_from_tokens_and_leaves_the_source_s_layers(vidit, unet):
    free = {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    assert {name for name, layer in vidit.layers.items() if layer.is_float} == free
    assert all(isinstance(q.grid, TokenGrid) and q.scale is not None for n, q in vidit.layers.items() if n not in free)
    assert vidit.layers[f"{BLOCK}.attn1.to_q"].grid.token_dims == (-1,)
    assert vidit.layers["down_blocks.0.temp_convs.0.conv1.2"].grid.token_dims == (1, 2, 3, 4)
    assert all(operand.grid is None for operand in vidit.operands.values())


def test_vidit_quantizes_attention_where_asked(unet, ranges, calibration, adapter):
    everywhere = quantize(ViDiTQ(float_attention=False), unet, ranges, calibration, adapter)
    assert everywhere.operands[f"{BLOCK}.attn1.v"].grid == TokenGrid(8, (-2, -1))
    ruled = ViDiTQ(rules=[LayerRule(f"{BLOCK}.attn1.q", None, 6)])
    operands = quantize(ruled, unet, ranges, calibration, adapter).operands
    assert operands[f"{BLOCK}.attn1.q"].grid == TokenGrid(6, (-1,))
    assert operands[f"{BLOCK}.attn1.k"].grid is None


def test_a_loud_token_does_not_disturb_the_others(unet, vidit):
    """What dynamic ranges are for: with one token 50 times as loud, the others are rounded as finely as before."""
    name = f"{BLOCK}.attn2.to_q"
    layer = weighted_layers(unet)[name]
    quantized = convert(unet, vidit).get_submodule(name)
    absorbed = vidit.layers[name].scale
    quiet = torch.randn(1, 9, layer.in_features, generator=torch.Generator().manual_seed(0))
    loud = quiet.clone()
    loud[:, 0] *= 50
    # The norm hands this layer X'' = X/s.
    torch.testing.assert_close(quantized(loud / absorbed)[:, 1:], quantized(quiet / absorbed)[:, 1:])


@pytest.mark.parametrize("granularity", [ActivationGranularity.timestep, ActivationGranularity.frame])
def test_finer_grids_are_those_of_the_balanced_input(granularity, unet, ranges, calibration, adapter, smooth):
    finer = quantize(SmoothQuant(activation_granularity=granularity), unet, ranges, calibration, adapter)
    name = f"{BLOCK}.attn1.to_q"
    assert max(finer.layers[name].grid.scales) == pytest.approx(smooth.layers[name].grid.scale, rel=1e-4)
    assert relative_error(unet, finer, calibration) < 0.05


@pytest.mark.parametrize("name", ["smooth", "vidit"])
def test_error_is_small(name, request, unet, calibration):
    assert relative_error(unet, request.getfixturevalue(name), calibration) < 0.05


@pytest.mark.parametrize("method", [SmoothQuant(), ViDiTQ()], ids=lambda m: m.name)
def test_config_is_the_default_and_floating_point_changes_nothing(method, unet, ranges, calibration, adapter):
    assert build_node(OmegaConf.load(CONF / f"{method.name}.yaml"), "quantizer") == method
    assert relative_error(unet, quantize(method, unet, ranges, calibration, adapter, "fp"), calibration) == 0


@pytest.mark.parametrize("method", [SmoothQuant, ViDiTQ])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"quantizer\.alpha=1\.5: must be in \[0, 1\]"),
        ({"activation_range": "lp"}, r"quantizer\.activation_range=lp: must be minmax"),
        ({"activation_granularity": "pixel"}, r"quantizer\.activation_granularity.*pixel"),
    ],
)
def test_bad_options_are_refused_in_one_line(method, options, message):
    node = OmegaConf.merge(OmegaConf.load(CONF / f"{method().name}.yaml"), options)
    with pytest.raises(ValueError, match=message) as error:
        build_node(node, "quantizer")
    assert "\n" not in str(error.value)
