"""The operand processor against diffusers' own, and quantized operands against the textbook."""

import math

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor2_0

from qvd.backends.simulated import quantized_operands
from qvd.graph.attention import OperandAttnProcessor, Operands, check_processor
from qvd.graph.hooks import attention_operands_to
from qvd.numerics.grids import AffineGrid


def plain(x):
    return x


CASES = {
    "self": ({}, {}),
    "cross": ({"cross_attention_dim": 12}, {"encoder_hidden_states": torch.randn(2, 5, 12)}),
    "normed": ({"qk_norm": "layer_norm", "rescale_output_factor": 1.5, "residual_connection": True}, {}),
    "masked": ({}, {"attention_mask": torch.randn(2, 1, 9)}),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_identity_operands_equal_the_original(case):
    options, inputs = CASES[case]
    attention = Attention(query_dim=16, heads=4, dim_head=4, **options).eval()
    x = torch.randn(2, 9, 16)
    reference = attention(x, **inputs)
    attention.processor = OperandAttnProcessor(Operands(plain, plain, plain, plain))
    torch.testing.assert_close(attention(x, **inputs), reference, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_images_are_attended_as_sequences():
    attention = Attention(query_dim=16, heads=4, dim_head=4, norm_num_groups=4).eval()
    x = torch.randn(2, 16, 3, 5)
    reference = attention(x)
    attention.processor = OperandAttnProcessor(Operands(plain, plain, plain, plain))
    torch.testing.assert_close(attention(x), reference, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_quantized_operands_are_the_textbook():
    attention = Attention(query_dim=16, heads=2, dim_head=8).eval()
    x = torch.randn(2, 9, 16)
    q_grid, k_grid, v_grid = (AffineGrid(6, s, z) for s, z in ((0.05, 30.0), (0.06, 31.0), (0.04, 33.0)))
    p_grid = AffineGrid(8, 1 / 255, 0.0)
    q, k, v = (f(x).unflatten(-1, (2, 8)).transpose(1, 2) for f in (attention.to_q, attention.to_k, attention.to_v))
    probabilities = (q_grid(q) @ k_grid(k).transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    reference = attention.to_out[0]((p_grid(probabilities) @ v_grid(v)).transpose(1, 2).flatten(2))
    attention.processor = OperandAttnProcessor(quantized_operands(q_grid, k_grid, p_grid, v_grid))
    # A probability within rounding of a tie may take the neighbouring level.
    assert (attention(x) - reference).abs().max() < 2e-3
    attention.processor = OperandAttnProcessor(quantized_operands(q_grid, None, None, v_grid))
    reference = attention.to_out[0](
        (((q_grid(q) @ k.mT) / math.sqrt(8)).softmax(-1) @ v_grid(v)).transpose(1, 2).flatten(2)
    )
    torch.testing.assert_close(attention(x), reference, rtol=1e-4, atol=1e-5)


def test_other_processors_are_refused_by_name():
    attention = Attention(query_dim=16, heads=2, dim_head=8)
    attention.processor = AttnAddedKVProcessor2_0()
    with pytest.raises(TypeError, match=r"mid\.attn1.*AttnAddedKV"):
        check_processor("mid.attn1", attention)


@torch.no_grad()
def test_operands_that_nobody_asks_for_are_not_watched():
    """As where rules or `only` leave them in floating point."""
    net, x, seen = torch.nn.Sequential(Attention(query_dim=16, heads=2, dim_head=8)), torch.randn(2, 9, 16), []
    reference = net(x)
    with attention_operands_to(net, {"0.k": seen.append}):
        torch.testing.assert_close(net(x), reference, rtol=1e-4, atol=1e-5)
    (k,) = seen
    torch.testing.assert_close(k, net[0].to_k(x).unflatten(-1, (2, 8)).transpose(1, 2))
