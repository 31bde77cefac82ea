"""A small network of diffusers' own blocks with a skip connection, for the reconstruction of whole networks."""

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from qvd.calibration.calibration_set import CalibrationSet
from qvd.graph.sites import kind, weighted_layers
from qvd.graph.units import units_of_types
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import LayerQuantization, Quantization, quantize_weight


class Stage(nn.Module):
    """Two units behind one another, called as a whole: what a U-Net's down or up block is."""

    def __init__(self, channels_in):
        super().__init__()
        self.resnet = ResnetBlock2D(in_channels=channels_in, out_channels=8, temb_channels=8, groups=4)
        self.transformer = BasicTransformerBlock(8, 2, 4)

    def forward(self, x, embedding):
        x = self.resnet(x, embedding)
        return x, self.transformer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


class Net(nn.Module):
    """conv_in → down → up, which reads down's inner activation again, → conv_out; registered out of order."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.conv_in = nn.Conv2d(3, 8, 3, padding=1)
        self.up, self.down = Stage(16), Stage(8)
        self.conv_out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, sample, timestep):
        embedding = self.embed(timestep[:, None])
        inner, x = self.down(self.conv_in(sample), embedding)
        _, x = self.up(torch.cat([x, inner], 1), embedding)
        return self.conv_out(x)


ORDER = ["embed", "conv_in", "down.resnet", "down.transformer", "up.resnet", "up.transformer", "conv_out"]


def make_net():
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


def make_calibration(entries=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(entries, 3, 6, 6, generator=generator)
    return CalibrationSet.from_tensors({"sample": sample, "timestep": torch.rand(entries, generator=generator)})


def units(net, granularity):
    return units_of_types(net, (ResnetBlock2D, BasicTransformerBlock))[granularity]


def nearest_weights(net, n_bits):
    layers = {
        name: LayerQuantization(name, kind(layer), "test", quantize_weight(layer.weight, n_bits, RangeMethod.lp))
        for name, layer in weighted_layers(net).items()
    }
    return Quantization(layers, {})
