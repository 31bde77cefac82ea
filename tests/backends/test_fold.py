"""SCRI's fold on whole networks and attention: exact in floating point, absorbed by a norm or computed explicitly."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer
from qvd.backends.convert import convert
from qvd.calibration.observers import HistogramObserver
from qvd.graph.absorb import absorbing_norms
from qvd.graph.hooks import layer_inputs_to
from qvd.graph.sites import channel_dim, weighted_layers
from qvd.numerics.channels import ChannelTransform
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import Quantization
from qvd.spec.rules import SiteBits
from tests.architectures import ARCHITECTURES, SIZES, build

FLOAT = SiteBits(None, None, "test")
MINMAX = LayerSettings(RangeMethod.minmax, RangeMethod.minmax, 2.4, bias_correction=False)
PARTS = ("shift", "scale", "both")
# Shrinking a whole network takes minutes.
FEW = settings(max_examples=settings.default.max_examples // 10, phases=[Phase.generate])


def observed(model, example):
    observers = {name: HistogramObserver(channel_dim(layer)) for name, layer in weighted_layers(model).items()}
    with layer_inputs_to(model, {name: observer.update for name, observer in observers.items()}):
        model(**example)
    return {name: observer.result() for name, observer in observers.items()}


def transform_of(record, part):
    """The centre of each channel, and scales between 1 and 8."""
    shift = (record.channel_max + record.channel_min) / 2
    return ChannelTransform(
        None if part == "scale" else shift, None if part == "shift" else 8 ** torch.rand(len(shift))
    )


def folded(model, example, part, absorb):
    """The quantization that transforms every layer's input and keeps all numbers in floating point."""
    ranges, layers = observed(model, example), weighted_layers(model)
    norm_of = {n: norm for norm, readers in absorbing_norms(model, example).items() for n in readers} if absorb else {}
    transforms, result = {}, {}
    for name, layer in layers.items():
        norm = norm_of.get(name)
        transform = transforms.setdefault(norm or name, transform_of(ranges[name], part))
        result[name] = quantize_layer(name, layer, FLOAT, ranges[name], MINMAX, LayerChoice(transform, norm))
    return Quantization(result, {})


def relative_difference(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("absorb", [True, False], ids=["absorbed", "explicit"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@FEW
@given(sizes=SIZES, seed=st.integers(0, 99), part=st.sampled_from(PARTS))
@torch.no_grad()
def test_folded_network_equals_the_original(architecture, absorb, sizes, seed, part):
    model, example = build(architecture, seed, **sizes)
    quantization = folded(model, example, part, absorb)
    absorbed = {layer.absorbed_by for layer in quantization.layers.values()} - {None}
    assert bool(absorbed) == (absorb and architecture.startswith("unet"))
    assert relative_difference(convert(model, quantization)(**example).sample, model(**example).sample) <= 1e-5


class NormedAttention(nn.Module):
    def __init__(self, width, heads, bias):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.norm.weight, 1.0, 0.5)
        nn.init.normal_(self.norm.bias)
        self.attn = Attention(width, heads=heads, dim_head=4, bias=bias)

    def forward(self, x):
        return self.attn(self.norm(x))


@given(
    width=st.integers(2, 24),
    heads=st.integers(1, 3),
    bias=st.booleans(),
    absorb=st.booleans(),
    part=st.sampled_from(PARTS),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_query_key_value_behind_a_norm(width, heads, bias, absorb, part, seed):
    torch.manual_seed(seed)
    model, example = NormedAttention(width, heads, bias).eval(), {"x": torch.randn(2, 7, width) * 3 + 1}
    quantization = folded(model, example, part, absorb)
    assert (quantization.layers["attn.to_q"].absorbed_by == "norm") == absorb
    assert relative_difference(convert(model, quantization)(**example), model(**example)) <= 1e-5
