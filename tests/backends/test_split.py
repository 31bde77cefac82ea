"""Split shortcuts: two quantizers at equal ranges are one, and different ranges are kept apart."""

import json

import torch
from safetensors.torch import load, save
from torch import nn

from qvd.backends.simulated import SIMULATION
from qvd.numerics.grids import AffineGrid, SplitGrid, grid_from_dict
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import LayerQuantization, Quantization, QuantizedWeight, quantize_weight

CHANNEL = 5


def test_two_activation_quantizers_at_equal_ranges_are_one():
    x = torch.randn(3, 8, 4, 4) * 2
    one = AffineGrid(6, 0.07, 30.0)
    two = SplitGrid(6, CHANNEL, 1, 0.07, 30.0, 0.07, 30.0)
    assert torch.equal(two(x), one(x))
    assert torch.equal(two.values(two.codes(x)), one.values(one.codes(x)))
    assert two.num_levels == 2 * one.num_levels == 128


def test_two_weight_quantizers_at_equal_ranges_are_one():
    weight = torch.randn(4, 8, 3, 3)
    # Both halves of every output channel get the same extremes, hence the same range.
    weight[:, [0, CHANNEL], 0, 0], weight[:, [1, CHANNEL + 1], 0, 0] = -4.0, 5.0
    one = quantize_weight(weight, 4, RangeMethod.minmax)
    two = quantize_weight(weight, 4, RangeMethod.minmax, split=CHANNEL)
    assert two.scale.shape == (4, 2)
    assert torch.equal(two.codes, one.codes)
    assert torch.equal(two.dequantize(), one.dequantize())


def test_some_output_channels_keep_their_own_steps():
    weight = quantize_weight(torch.randn(4, 8, 3, 3) * torch.logspace(0, 2, 4).view(4, 1, 1, 1), 4, RangeMethod.minmax)
    for whole in (weight, QuantizedWeight(weight.codes, *_halves(weight), 4, CHANNEL)):
        part = whole.channels(slice(1, 3))
        assert part.codes.shape == (2, 8, 3, 3)
        assert torch.equal(part.dequantize(), whole.dequantize()[1:3])


def _halves(weight):
    """A second half three times as coarse."""
    return torch.stack([weight.scale, 3 * weight.scale], 1), torch.stack([weight.zero_point] * 2, 1)


def test_a_layer_with_equal_halves_runs_like_one_with_one():
    layer, x = nn.Conv2d(8, 4, 1), torch.randn(2, 8, 5, 5)
    one = quantize_weight(layer.weight, 4, RangeMethod.lp)
    two = QuantizedWeight(one.codes, one.scale[:, None].expand(-1, 2), one.zero_point[:, None].expand(-1, 2), 4, 3)
    plain = LayerQuantization("x", "conv2d", "test", one, AffineGrid(8, 0.03, 120.0))
    split = LayerQuantization("x", "conv2d", "test", two, SplitGrid(8, 3, 1, 0.03, 120.0, 0.03, 120.0))
    torch.testing.assert_close(SIMULATION.layer(layer, split)(x), SIMULATION.layer(layer, plain)(x))


def test_halves_of_different_size_gain_from_their_own_quantizers():
    weight, x = torch.randn(4, 8), torch.randn(100, 8)
    weight[:, CHANNEL:] *= 20
    x[:, CHANNEL:] *= 20

    def small_half_error(quantized, original):
        return (quantized - original)[:, :CHANNEL].square().mean()

    one, two = (quantize_weight(weight, 4, RangeMethod.minmax, split=split) for split in (None, CHANNEL))
    assert small_half_error(two.dequantize(), weight) < 0.05 * small_half_error(one.dequantize(), weight)
    low, high = AffineGrid(4, 0.4, 8.0), AffineGrid(4, 8.0, 8.0)
    grid = SplitGrid(4, CHANNEL, -1, low.scale, low.zero_point, high.scale, high.zero_point)
    assert torch.equal(grid(x), torch.cat([low(x[:, :CHANNEL]), high(x[:, CHANNEL:])], -1))


def test_split_survives_the_round_trip():
    weight = quantize_weight(torch.randn(4, 8, 1, 1), 4, RangeMethod.lp, split=CHANNEL)
    grid = SplitGrid(8, CHANNEL, 1, 0.5, 5.0, 0.1, 2.0)
    assert grid_from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    quantization = Quantization({"x": LayerQuantization("x", "conv2d", "test", weight, grid)}, {})
    restored = Quantization.from_tensors(load(save(quantization.to_tensors())), quantization.metadata).layers["x"]
    assert torch.equal(restored.weight.dequantize(), weight.dequantize())
    assert restored.grid == grid
