"""Bit operations against sums done by hand."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from qvd.graph.cost import bit_operations
from qvd.graph.sites import OPERANDS, weighted_layers
from qvd.numerics.grids import AffineGrid
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization, quantize_weight

BATCH = 2
MACS = {
    "image": BATCH * 6 * (4 * 3) * (2 * 3 * 3),  # 8 × 6 padded by 1 at stride 2 gives 4 × 3; 2 channels a group
    "video": BATCH * 6 * (4 * 4 * 3) * (6 * 3),  # 4 frames padded by 1, kernel 3, give 4 again
    "hidden": BATCH * (4 * 4 * 3 + 7) * 6 * 5,  # called twice
    "attention.to_q": BATCH * 12 * 8 * 8,
    "attention.to_k": BATCH * 5 * 10 * 8,
    "attention.to_v": BATCH * 5 * 10 * 8,
    "attention.to_out.0": BATCH * 12 * 8 * 8,
}
ATTENTION_MATMUL = BATCH * 2 * 12 * 5 * 4  # heads, queries, keys, head_dim


class Net(nn.Module):
    """Every kind of product once; one convolution has two names, one Linear two calls."""

    def __init__(self):
        super().__init__()
        self.image = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.alias = self.image
        self.video = nn.Conv3d(6, 6, (3, 1, 1), padding=(1, 0, 0))
        self.hidden = nn.Linear(6, 5)
        self.attention = Attention(query_dim=8, cross_attention_dim=10, heads=2, dim_head=4)

    def forward(self, image, rows, queries, context):
        x = self.image(image)
        x = self.video(x[:, :, None].expand(-1, -1, 4, -1, -1))
        self.hidden(x.flatten(2).mT)
        self.hidden(rows)
        return self.attention(queries, encoder_hidden_states=context)


ENTRY = {
    "image": torch.randn(BATCH, 4, 8, 6),
    "rows": torch.randn(BATCH, 7, 6),
    "queries": torch.randn(BATCH, 12, 8),
    "context": torch.randn(BATCH, 5, 10),
}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


def quantized(net, weight_bits, layer_bits, operand_bits):
    """Bits by name; what is not named stays in floating point."""
    layers = {
        name: LayerQuantization(
            name,
            "",
            "",
            weight=quantize_weight(layer.weight, weight_bits[name], RangeMethod.minmax)
            if name in weight_bits
            else None,
            grid=AffineGrid(layer_bits[name], 0.1, 0.0) if name in layer_bits else None,
        )
        for name, layer in weighted_layers(net).items()
    }
    operands = {
        f"attention.{o}": OperandQuantization(f"attention.{o}", "", "", AffineGrid(n_bits, 0.1, 0.0))
        for o, n_bits in operand_bits.items()
    }
    return Quantization(layers, operands)


def test_floating_point_has_the_width_of_its_dtype(net):
    macs = sum(MACS.values()) + 2 * ATTENTION_MATMUL
    assert bit_operations(net, Quantization({}, {}), ENTRY) == {"macs": macs, "bops": macs * 32 * 32}
    half = {name: tensor.bfloat16() for name, tensor in ENTRY.items()}
    assert bit_operations(copy.deepcopy(net).bfloat16(), Quantization({}, {}), half)["bops"] == macs * 16 * 16


def test_everything_at_eight_bits_costs_a_sixteenth(net):
    all_layers, all_operands = dict.fromkeys(MACS, 8), dict.fromkeys(OPERANDS, 8)
    cost = bit_operations(net, quantized(net, all_layers, all_layers, all_operands), ENTRY)
    fp = bit_operations(net, Quantization({}, {}), ENTRY)
    assert (fp["macs"], fp["bops"]) == (cost["macs"], 16 * cost["bops"])


def test_each_product_takes_its_own_bits(net):
    weight_bits = {"image": 4, "hidden": 3, "attention.to_v": 4}
    layer_bits = {"image": 8, "video": 6}
    cost = bit_operations(net, quantized(net, weight_bits, layer_bits, {"q": 8, "probabilities": 5, "v": 7}), ENTRY)
    pairs = {"image": 4 * 8, "video": 32 * 6, "hidden": 3 * 32, "attention.to_v": 4 * 32}
    layers = sum(macs * pairs.get(name, 32 * 32) for name, macs in MACS.items())
    assert cost["bops"] == layers + ATTENTION_MATMUL * (8 * 32 + 5 * 7)


def test_the_denoiser_is_left_as_it_was(net):
    processor = net.attention.processor
    bit_operations(net, Quantization({}, {}), ENTRY)
    assert net.attention.processor is processor
    assert not any(module._forward_hooks for module in net.modules())
