"""Where channels of a denoiser run over a linear path, from the parameters that make them to the layers that read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from qvd.graph.absorb import absorbing_norms
from qvd.models.latte_network import Block, FusedAttention

# (shift, scale) among a modulation's six chunks → the layers of a block that read what it modulates.
MODULATED: dict[type[nn.Module], dict[tuple[int, int], tuple[str, ...]]] = {
    BasicTransformerBlock: {(0, 1): ("attn1.to_q", "attn1.to_k", "attn1.to_v"), (3, 4): ("ff.net.0.proj",)},
    Block: {(0, 1): ("attn.qkv",), (3, 4): ("mlp.fc1",)},
}


@dataclass(frozen=True, eq=False)
class LinearPath:
    """Channels that are made by parameters and read by weighted layers alone; the parameters are views.

    Attributes:
        name: tells it from a denoiser's other paths.
        readers: names of the layers; they read one tensor, or each the same channels of its own block.
        rows: parameters (channels, …) that the channels are linear in.
        modulations: (channels,) parameters m that multiply as 1 + m.
        offset: a (channels,) parameter that is added to the channels, if there is one.
    """

    name: str
    readers: list[str]
    rows: list[Tensor]
    modulations: list[Tensor] = field(default_factory=list)
    offset: Tensor | None = None


def linear_paths(denoiser: nn.Module, example: Mapping[str, Any]) -> list[LinearPath]:
    """Every path known in a denoiser.

    Norm → the layers behind it; v → attention's output layer (softmax averages over tokens, not over channels); the
    hidden half of a GEGLU → the feed-forward's output layer; AdaLN modulation → q, k, v and the feed-forward's input.

    Args:
        denoiser: a diffusers U-Net or Latte, or a `ClassLatte`.
        example: one call of its forward.
    """
    norms = [
        _norm_path(name, denoiser.get_submodule(name), readers)
        for name, readers in absorbing_norms(denoiser, example).items()
    ]
    return [*norms, *_module_paths(denoiser), *_shared_modulation(denoiser)]


def _norm_path(name: str, norm: Any, readers: list[str]) -> LinearPath:
    return LinearPath(name, readers, [norm.weight, norm.bias], offset=norm.bias)


def _module_paths(denoiser: nn.Module) -> Iterator[LinearPath]:
    """Paths that lie within one module."""
    for name, module in denoiser.named_modules():
        if isinstance(module, Attention):
            values = _parameters(module.to_v)
            yield LinearPath(name, [f"{name}.to_out.0"], values, offset=values[1] if values[1:] else None)
        elif isinstance(module, FusedAttention):
            weight, bias = (p.chunk(3)[2] for p in _parameters(module.qkv))
            yield LinearPath(name, [f"{name}.proj"], [weight, bias], offset=bias)
        elif isinstance(module, FeedForward) and isinstance(module.net[0], GEGLU):
            # Only the hidden half: the gate goes through a GELU, and would multiply an offset.
            yield LinearPath(name, [f"{name}.net.2"], [p.chunk(2)[0] for p in _parameters(module.net[0].proj)])
        elif isinstance(module, Block):
            weights, biases = (p.chunk(6) for p in _parameters(module.adaLN_modulation[1]))
            for (shift, scale), layers in MODULATED[Block].items():
                rows = [weights[shift], weights[scale], biases[shift]]
                readers = [f"{name}.{layer}" for layer in layers]
                yield LinearPath(f"{name}.{shift}", readers, rows, [biases[scale]], biases[shift])


def _shared_modulation(denoiser: nn.Module) -> Iterator[LinearPath]:
    """Latte of diffusers: x·(1 + table + f(t)) + …, with tables of each block and one f(t) for all of them."""
    blocks: dict[str, Any] = {
        name: module
        for name, module in denoiser.named_modules()
        if isinstance(module, BasicTransformerBlock) and module.norm_type == "ada_norm_single"
    }
    if not blocks:
        return
    weights, biases = (p.chunk(6) for p in _parameters(denoiser.get_submodule("adaln_single.linear")))
    for (shift, scale), layers in MODULATED[BasicTransformerBlock].items():
        tables = [block.scale_shift_table for block in blocks.values()]
        rows = [weights[shift], weights[scale], biases[shift], biases[scale], *(table[shift] for table in tables)]
        readers = [f"{block}.{layer}" for block in blocks for layer in layers]
        yield LinearPath(f"adaln_single.{shift}", readers, rows, [table[scale] for table in tables], biases[shift])


def _parameters(layer: nn.Module) -> list[Tensor]:
    """Weight and, if there is one, bias."""
    return list(layer.parameters(recurse=False))
