"""Layers of every shape, inputs for them, and everything that a spec can say of them."""

from dataclasses import replace

import torch
from torch import nn

from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer
from qvd.calibration.observers import HistogramObserver
from qvd.graph.sites import channel_dim
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import FrameGrid, PowerGrid, SplitGrid, TokenGrid
from qvd.options.rules import RangeMethod
from qvd.spec.rules import SiteBits

MINMAX = LayerSettings(RangeMethod.minmax, RangeMethod.minmax, 2.4, bias_correction=False)
CORRECTED = LayerSettings(RangeMethod.minmax, RangeMethod.minmax, 2.4, bias_correction=True)

LAYERS = [
    (nn.Linear(6, 5), (3, 7, 6)),
    (nn.Linear(6, 5, bias=False), (3, 6)),
    (nn.Conv1d(6, 4, 3, padding=1), (2, 6, 9)),
    (nn.Conv2d(6, 4, 3, padding=1), (2, 6, 7, 8)),
    (nn.Conv2d(6, 4, 3, stride=2, padding=1), (2, 6, 8, 8)),
    (nn.Conv2d(6, 4, 1), (2, 6, 5, 5)),
    (nn.Conv2d(6, 4, 3, padding="same", dilation=2), (2, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, padding=1, groups=2, bias=False), (2, 6, 7, 7)),
    (nn.Conv3d(6, 4, (3, 1, 1), padding=(1, 0, 0)), (2, 6, 5, 4, 4)),
    (nn.Conv3d(6, 4, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)), (2, 6, 6, 4, 4)),
    (nn.Conv3d(6, 4, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)), (2, 6, 6, 4, 4)),
    (nn.Conv3d(6, 4, (3, 1, 1), stride=(1, 2, 2), padding=(1, 0, 0)), (2, 6, 5, 4, 4)),
    (nn.Conv3d(6, 4, (3, 1, 1), padding=1), (2, 6, 5, 4, 4)),
    (nn.Conv3d(6, 4, 3), (2, 6, 5, 4, 4)),
    (nn.Conv3d(6, 4, 3, stride=(1, 2, 2), padding=1), (2, 6, 5, 4, 4)),
]


def observed(layer, x):
    observer = HistogramObserver(channel_dim(layer))
    observer.update(x)
    return observer.result()


def skewed(layer, shape):
    x, dim = torch.randn(shape), channel_dim(layer)
    gain, centre = torch.rand(6) * 5 + 0.1, torch.randn(6) * 3
    return (x.movedim(dim, -1) * gain + centre).movedim(-1, dim)


def transform_of(record):
    shift = (record.channel_max + record.channel_min) / 2
    return ChannelTransform(shift, torch.rand(len(shift)) * 3 + 1)


def specs_of(layer, x):
    """By what they say: the quantizations of a layer whose input is like `x`."""
    record, dim = observed(layer, x), channel_dim(layer)
    transform = transform_of(record)

    def spec(weight, activation, settings=MINMAX, **choice):
        bits = SiteBits(weight, activation, "test")
        return quantize_layer("block.layer", layer, bits, record, settings, LayerChoice(**choice))

    plain, moved = spec(4, 6), spec(4, 6, CORRECTED, transform=transform)
    halves = SplitGrid(6, 2, dim, 0.3, 20.0, 0.2, 31.0)
    tokens = TokenGrid(6, (-1,) if dim == -1 else tuple(range(1, x.dim())))
    return {
        "w8a8": spec(8, 8),
        "w4a6": plain,
        "weight only": spec(4, None),
        "activation only": spec(None, 6),
        "bias corrected": spec(4, 6, CORRECTED),
        "shift": spec(4, 6, transform=ChannelTransform(transform.shift)),
        "scale": spec(4, 6, transform=ChannelTransform(None, transform.scale)),
        "shift and scale": moved,
        "shift and scale in floating point": spec(None, None, transform=transform),
        "absorbed by a norm": replace(moved, absorbed_by="norm"),
        "split weight": spec(4, 6, split=2) if getattr(layer, "groups", 1) == 1 else plain,
        "non-uniform grid": replace(plain, grid=PowerGrid(6, 0.01, 20.0, power=0.5)),
        "split grid": replace(plain, grid=halves),
        "grid per token": replace(plain, grid=tokens),
        "grid per frame": replace(plain, grid=FrameGrid(6, (0.3,) * len(x), (30.0,) * len(x), 0)),
    }
