"""Which norms may absorb: only those that nothing but layers read."""

import torch
from torch import nn

from qvd.graph.absorb import absorbing_norms


class Reader(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.read = read

    def forward(self, x):
        return self.read(self, self.norm(x))


def absorbed(read, **kwargs):
    return absorbing_norms(Reader(read), {"x": torch.randn(2, 4, 8)})


def test_layers_behind_pure_layout_absorb():
    assert absorbed(lambda m, y: m.a(y) + m.b(y.reshape(8, 8)).view(2, 4, 3)) == {"norm": ["a", "b"]}


def test_any_other_reader_prevents_it():
    assert absorbed(lambda m, y: m.a(y) + y.sum()) == {}
    assert absorbed(lambda m, y: m.a(y * 2)) == {}
    assert absorbed(lambda m, y: m.a(torch.nn.functional.silu(y))) == {}
    assert absorbed(lambda m, y: m.a(y.chunk(2, dim=1)[0])) == {}
    assert absorbed(lambda m, y: m.a(y) + y.chunk(2, dim=1)[0].sum()) == {}
    assert absorbed(lambda m, y: m.a(y) + torch.sum(input=y)) == {}


def test_a_layer_may_be_given_its_input_by_name():
    assert absorbed(lambda m, y: m.a(input=y)) == {"norm": ["a"]}


def test_channels_must_be_the_norms():
    model = nn.Sequential(nn.LayerNorm(8), nn.Flatten(1), nn.Linear(32, 2))
    assert absorbing_norms(model, {"input": torch.randn(2, 4, 8)}) == {}


def test_a_grouped_convolution_reads_all_channels():
    model = nn.Sequential(nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1, groups=2))
    assert absorbing_norms(model, {"input": torch.randn(1, 8, 3, 3)}) == {"0": ["1"]}


def test_norm_without_affine_cannot():
    for half in ({"elementwise_affine": False}, {"bias": False}):
        model = nn.Sequential(nn.LayerNorm(8, **half), nn.Linear(8, 2))
        assert absorbing_norms(model, {"input": torch.randn(2, 8)}) == {}


def test_unet3d_absorbs_before_attention_feed_forward_and_proj_in(unet, calibration):
    found = absorbing_norms(unet, calibration.take([0]))
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert found[f"{block}.norm1"] == [f"{block}.attn1.to_{x}" for x in "qkv"]
    assert found[f"{block}.norm2"] == [f"{block}.attn2.to_q"]
    assert found[f"{block}.norm3"] == [f"{block}.ff.net.0.proj"]
    assert found["down_blocks.0.attentions.0.norm"] == ["down_blocks.0.attentions.0.proj_in"]
    assert found["transformer_in.norm"] == ["transformer_in.proj_in"]
    assert not any("resnets" in norm or "temp_convs" in norm for norm in found)
