"""An attention processor whose four matmul operands pass through given functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from qvd.graph.sites import attention_modules

Operand = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Operands:
    """What is done to q, k, v (batch, heads, length, head_dim) and to the probabilities (batch, heads, queries, keys).

    Each function may return its operand divided by a constant, which `query_key_scale` and `output_scale` give back:
    quantized operands stay integers, and their scales ride along in the matmuls for nothing.
    """

    q: Operand
    k: Operand
    probabilities: Operand
    v: Operand
    query_key_scale: float = 1.0
    output_scale: float = 1.0


class OperandAttnProcessor:
    """The mathematics of diffusers' `AttnProcessor2_0` with explicit matmuls, so that every operand can be reached.

    With identity operands it equals the original to float tolerance.
    """

    def __init__(self, operands: Operands):
        self.operands = operands

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        residual, shape = hidden_states, hidden_states.shape
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        if len(shape) == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        if encoder_hidden_states is not None and attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        hidden_states = self._attend(attn, hidden_states, context, attention_mask)
        hidden_states = attn.to_out[1](attn.to_out[0](hidden_states))
        if len(shape) == 4:
            hidden_states = hidden_states.transpose(-1, -2).reshape(shape)
        if attn.residual_connection:
            hidden_states = hidden_states + residual
        return hidden_states / attn.rescale_output_factor if attn.rescale_output_factor != 1 else hidden_states

    def _attend(self, attn: Any, hidden_states: Tensor, context: Tensor, attention_mask: Tensor | None) -> Tensor:
        batch, keys, _ = context.shape
        query, key, value = (
            x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, keys, batch)
            attention_mask = attention_mask.view(batch, attn.heads, -1, keys)
        return self.attend(query, key, value, attention_mask)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """softmax(q·kᵀ/√d + mask)·v on the operands.

        Args:
            query, key, value: (batch, heads, length, head_dim).
            mask: added to the scores, broadcastable to (batch, heads, queries, keys).

        Returns:
            (batch, queries, heads·head_dim)
        """
        heads = query.shape[:2]
        head_scale = self.operands.query_key_scale / math.sqrt(query.shape[-1])
        query, key, value = (
            f(x).flatten(0, 1) for f, x in ((self.operands.q, query), (self.operands.k, key), (self.operands.v, value))
        )
        scores = _scaled_bmm(query, key.transpose(1, 2), head_scale)
        if mask is not None:
            scores = (scores.unflatten(0, heads) + mask).flatten(0, 1)
        probabilities = self.operands.probabilities(scores.softmax(-1).unflatten(0, heads))
        output = _scaled_bmm(probabilities.flatten(0, 1), value, self.operands.output_scale)
        return output.unflatten(0, heads).transpose(1, 2).flatten(2)


def _scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale·(a @ b) over the first dimension, the factor taken inside the matmul."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale)


def explicit_attention_(denoiser: nn.Module) -> None:
    """Let every attention compute its two matmuls explicitly: on short sequences faster than the fused kernel."""
    for attn in attention_modules(denoiser).values():
        attn.processor = OperandAttnProcessor(Operands(_same, _same, _same, _same))


def _same(x: Tensor) -> Tensor:
    return x


def processor_refusal(attn: Any) -> str | None:
    """Why an attention's operands cannot be reached: its processor computes something else than plain dot-product
    attention; None: they can."""
    if isinstance(attn.processor, AttnProcessor | AttnProcessor2_0 | None):
        return None
    return f"processor {type(attn.processor).__name__} cannot be quantized, only AttnProcessor(2_0)"


def check_processor(name: str, attn: Any) -> None:
    """Raise TypeError where an attention's operands cannot be reached."""
    if (reason := processor_refusal(attn)) is not None:
        raise TypeError(f"{name}: {reason}")
