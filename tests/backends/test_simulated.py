"""Executions against torch's own layers: the fold must be exact in floating point, at borders and strides too."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from qvd.algorithms.layerwise import LayerChoice, quantize_layer
from qvd.backends.simulated import SIMULATION
from qvd.graph.linear_map import TemporalConvMap
from qvd.numerics.affine import fake_quantize
from qvd.numerics.grids import AffineGrid, PowerGrid
from qvd.spec.quantization import LayerQuantization
from qvd.spec.rules import SiteBits
from tests.backends.layers import CORRECTED, LAYERS, MINMAX, observed, skewed, transform_of

FLOAT = SiteBits(None, None, "test")


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: str(v))
@torch.no_grad()
def test_shift_and_scale_are_exact_in_floating_point(layer, shape):
    x = skewed(layer, shape)
    record = observed(layer, x)
    quantization = quantize_layer("x", layer, FLOAT, record, MINMAX, LayerChoice(transform_of(record)))
    reference = layer(x)
    output = SIMULATION.layer(layer, quantization)(input=x)
    assert (output - reference).norm() <= 1e-5 * reference.norm()


@given(
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.tuples(*[st.integers(1, 2)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    rank=st.integers(1, 3),
)
@torch.no_grad()
def test_border_is_exact_for_any_stride_and_padding(kernel, stride, padding, rank):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    layer = conv(6, 3, kernel[:rank], stride[:rank], padding[:rank])
    x = skewed(layer, (2, 6, 6, 5, 4)[: 2 + rank])
    record = observed(layer, x)
    quantization = quantize_layer("x", layer, FLOAT, record, MINMAX, LayerChoice(transform_of(record)))
    reference = layer(x)
    assert (SIMULATION.layer(layer, quantization)(x) - reference).norm() <= 1e-5 * reference.norm()


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: str(v))
@torch.no_grad()
def test_codes_execute_as_the_textbook_quantizer(layer, shape):
    x = skewed(layer, shape)
    quantization = quantize_layer("x", layer, SiteBits(4, 6, "test"), observed(layer, x), MINMAX)
    grid = quantization.grid
    x_hat = fake_quantize(x, grid.scale, grid.zero_point, 6)
    layer_hat = copy.deepcopy(layer)
    layer_hat.weight.copy_(quantization.weight.dequantize())
    torch.testing.assert_close(SIMULATION.layer(layer, quantization)(x), layer_hat(x_hat), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_bias_correction_removes_the_mean_error():
    layer, x = nn.Linear(6, 5), torch.randn(4000, 6) + 3
    record, bits = observed(layer, x), SiteBits(3, None, "test")

    def mean_error(settings):
        output = SIMULATION.layer(layer, quantize_layer("x", layer, bits, record, settings))(x)
        return (output - layer(x)).mean(0).abs().max()

    assert mean_error(CORRECTED) < 1e-4 < mean_error(MINMAX)


@torch.no_grad()
def test_non_uniform_input_keeps_its_values():
    layer, grid = nn.Linear(6, 5), PowerGrid(8, 0.01, 20.0, power=0.5)
    quantization = LayerQuantization("x", "linear", "test", grid=grid)
    x = torch.rand(9, 6) * 3
    torch.testing.assert_close(SIMULATION.layer(layer, quantization)(x), layer(grid(x)))


def test_input_is_not_written_to():
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    before = x.clone()
    SIMULATION.layer(layer, LayerQuantization("x", "linear", "test", grid=AffineGrid(8, 1.0, 0.0)))(x)
    assert torch.equal(x, before)


def test_half_precision_layers_quantize_in_single_precision():
    layer = nn.Linear(6, 5).bfloat16()
    module = SIMULATION.layer(layer, LayerQuantization("x", "linear", "test", grid=AffineGrid(8, 0.1, 100.0)))
    assert module(torch.randn(3, 6).bfloat16()).dtype == torch.bfloat16


def test_temporal_convolutions_run_as_2d():
    temporal, cubic = nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)), nn.Conv3d(2, 2, 3, padding=1)
    quantization = LayerQuantization("x", "conv3d", "test")
    assert isinstance(SIMULATION.layer(temporal, quantization).linear_map, TemporalConvMap)
    assert not isinstance(SIMULATION.layer(cubic, quantization).linear_map, TemporalConvMap)
    x = torch.randn(2, 2, 5, 4, 4)
    torch.testing.assert_close(SIMULATION.layer(temporal, quantization)(x), temporal(x))


def test_reference_padding_is_minus_shift_over_scale():
    """The definition in the paper's port, spelled out: pad x'' with -s/c, then convolve without padding."""
    layer, x = nn.Conv2d(6, 4, 3, padding=1), torch.randn(2, 6, 5, 5)
    record = observed(layer, x)
    transform = transform_of(record)
    inner = transform(x, 1)
    padded = F.pad(inner, (1, 1, 1, 1)) + (transform(F.pad(x, (1, 1, 1, 1)), 1) - F.pad(inner, (1, 1, 1, 1)))
    weight = layer.weight * transform.scale.view(1, -1, 1, 1)
    offset = (layer.weight * transform.shift.view(1, -1, 1, 1)).sum((1, 2, 3))
    spelled_out = F.conv2d(padded, weight, layer.bias + offset)
    quantization = quantize_layer("x", layer, FLOAT, record, MINMAX, LayerChoice(transform))
    torch.testing.assert_close(SIMULATION.layer(layer, quantization)(x), spelled_out, rtol=1e-4, atol=1e-4)
