"""The naive baseline: min-max everywhere, embedders and the last layer in floating point."""

import torch

from baselines.naive import Naive
from tests.tiny_unet import context_of


def test_ranges_are_the_observed_extremes(unet, ranges, calibration, adapter):
    context = context_of(adapter, unet, "w8a8", torch.arange(10))
    quantization = Naive().quantize(unet, ranges, calibration, context)
    for name, layer in quantization.layers.items():
        if name in ("conv_out", "time_embedding.linear_1", "time_embedding.linear_2"):
            assert layer.is_float
            continue
        seen, grid = ranges[name], layer.grid
        assert abs(grid.scale * 255 - (max(seen.high, 0) - min(seen.low, 0))) < 1e-3
        weight = unet.get_submodule(name).weight
        assert ((layer.weight.dequantize() - weight).flatten(1).abs().amax(1) <= layer.weight.scale * 0.51).all()
        assert layer.bias is None and layer.border is None
