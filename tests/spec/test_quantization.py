"""The data form: packing, sizes, the map, and conversion of a whole UNet3D."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from baselines.naive import Naive
from qvd.backends.base import ExecutedLayer
from qvd.backends.convert import convert
from qvd.graph.attention import OperandAttnProcessor
from qvd.graph.sites import attention_modules, weighted_layers
from qvd.graph.size import stored_bytes, theoretical_bytes
from qvd.numerics.packing import pack, unpack
from qvd.spec.quantization import Quantization
from tests.tiny_unet import context_of

TIMESTEPS = torch.arange(0, 1000, 100)


def naive(unet, ranges, calibration, adapter, bits):
    context = context_of(adapter, unet, bits, TIMESTEPS)
    return Naive().quantize(unet, ranges, calibration, context)


@given(n_bits=st.integers(2, 8), shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_packing_round_trip(n_bits, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**n_bits, shape, generator=generator, dtype=torch.uint8)
    packed = pack(codes, n_bits)
    assert torch.equal(unpack(packed, n_bits, shape), codes)
    assert packed.numel() == (codes.numel() if n_bits > 4 else -(-codes.numel() // 2))


def test_two_codes_share_a_byte_the_first_in_its_low_half():
    """The form on disk: a file written today must be read tomorrow."""
    assert pack(torch.tensor([1, 2, 15], dtype=torch.uint8), 4).tolist() == [0x21, 0x0F]
    assert unpack(torch.tensor([0x21, 0x0F], dtype=torch.uint8), 4, [3]).tolist() == [1, 2, 15]
    assert pack(torch.tensor([1, 31], dtype=torch.uint8), 5).tolist() == [1, 31]


@pytest.fixture(scope="module")
def quantization(unet, ranges, calibration, adapter):
    return naive(unet, ranges, calibration, adapter, "w4a8")


def test_every_layer_and_attention_is_replaced(unet, quantization):
    converted = convert(unet, quantization)
    left = set(weighted_layers(converted))
    assert left == {"conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    quantized = sum(isinstance(m, ExecutedLayer) for m in converted.modules())
    assert quantized == len(weighted_layers(unet)) - 3
    assert all(isinstance(m.processor, OperandAttnProcessor) for m in attention_modules(converted).values())
    # Downsample2D holds one convolution under two names.
    downsampler = converted.down_blocks[0].downsamplers[0]
    assert isinstance(downsampler.conv, ExecutedLayer)
    assert all(not isinstance(m, torch.nn.Conv2d) for m in downsampler.modules())


def test_original_is_left_alone(unet, calibration, quantization):
    entry = calibration.take([0])
    before = unet(**entry).sample
    convert(unet, quantization)
    assert torch.equal(unet(**entry).sample, before)


def test_saved_quantization_runs_bit_equal(unet, calibration, quantization):
    tensors = load(save(quantization.to_tensors()))
    restored = Quantization.from_tensors(tensors, json.loads(json.dumps(quantization.metadata)))
    assert restored.map == quantization.map
    entry = calibration.take([0])
    assert torch.equal(convert(unet, restored)(**entry).sample, convert(unet, quantization)(**entry).sample)


def test_map_is_readable(unet, quantization):
    records = {r["layer"]: r for r in json.loads(json.dumps(quantization.map))}
    assert records["conv_in"]["weight_bits"] == 4
    assert records["conv_in"]["grid"] == "uniform"
    assert records["conv_out"]["weight_bits"] is None
    assert records["conv_out"]["rule"] == "last layer"
    softmax = records["mid_block.attentions.0.transformer_blocks.0.attn1.probabilities"]
    assert (softmax["kind"], softmax["activation_bits"], softmax["range"][0]) == ("attention.probabilities", 8, 0)


def test_sizes(unet, ranges, calibration, adapter, quantization):
    full = sum(p.numel() * 4 for p in unet.parameters())
    eight = naive(unet, ranges, calibration, adapter, "w8a8")
    assert theoretical_bytes(unet, quantization) < 0.2 * full < theoretical_bytes(unet, eight) < 0.35 * full
    for q in (quantization, eight):
        assert stored_bytes(q, unet) == pytest.approx(theoretical_bytes(unet, q), rel=0.02)
    assert stored_bytes(Quantization({}, {}), unet) == theoretical_bytes(unet, Quantization({}, {})) == full


@torch.no_grad()
def test_more_bits_are_better(unet, ranges, calibration, adapter):
    entry = calibration.take([0, 1])
    reference = unet(**entry).sample

    def error(bits):
        return (convert(unet, naive(unet, ranges, calibration, adapter, bits))(**entry).sample - reference).norm()

    assert error("w8a8") < error("w6a6") < error("w4a4")
    assert error("w8a8") < error("w4a8")
