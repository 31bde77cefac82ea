"""Where a denoiser can be quantized: its weighted layers and the operands of its attention."""

from __future__ import annotations

from typing import Any

from torch import nn

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Weighted = nn.Linear | Conv
OPERANDS = ("q", "k", "probabilities", "v")


def weighted_layers(denoiser: nn.Module) -> dict[str, Weighted]:
    """Name → every Linear and Conv1d/2d/3d, in module order; a layer registered under two names is listed once."""
    return {name: m for name, m in denoiser.named_modules() if isinstance(m, Weighted)}


def attention_modules(denoiser: nn.Module) -> dict[str, Any]:
    """Name → every module with heads and an exchangeable processor, in module order: diffusers' `Attention` and its
    like, such as the released Latte's `FusedAttention`."""
    return {name: m for name, m in denoiser.named_modules() if hasattr(m, "heads") and hasattr(m, "processor")}


def operand_sites(denoiser: nn.Module) -> list[str]:
    """`<attention>.{q,k,probabilities,v}` for every attention: the operands of its two matmuls."""
    return [f"{name}.{operand}" for name in attention_modules(denoiser) for operand in OPERANDS]


def channel_dim(layer: Weighted) -> int:
    """The dimension of a layer's input that holds its input channels."""
    return -1 if isinstance(layer, nn.Linear) else 1


def kind(layer: Weighted) -> str:
    """`linear`, `conv1d`, `conv2d` or `conv3d`."""
    return type(layer).__name__.lower()


def num_groups(layer: Weighted) -> int:
    """Groups of a convolution; 1 for Linear."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups
