"""Codes to bytes: one code per byte above 4 bits, two codes per byte (low nibble first) up to 4 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def pack(codes: Tensor, n_bits: int) -> Tensor:
    """uint8 codes of any shape → (bytes,) uint8."""
    flat = codes.reshape(-1)
    if n_bits > 4:
        return flat
    pairs = F.pad(flat, (0, flat.numel() % 2)).view(-1, 2)
    return pairs[:, 0] | (pairs[:, 1] << 4)


def unpack(packed: Tensor, n_bits: int, shape: Sequence[int]) -> Tensor:
    """The inverse of `pack`: uint8 codes of the given shape."""
    if n_bits > 4:
        return packed.view(*shape)
    codes = torch.stack([packed & 15, packed >> 4], dim=1).view(-1)
    return codes[: math.prod(shape)].view(*shape)
