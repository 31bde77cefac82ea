"""Affine grids: one for a tensor, or two for the halves of a skip concatenation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qvd.numerics.grids.base import Grid


@dataclass(frozen=True)
class AffineGrid(Grid):
    """Levels scale·(q - zero_point), q = 0 … 2^b - 1; symmetric where zero_point = 2^(b-1)."""

    form: ClassVar[str] = "uniform"
    scale: float
    zero_point: float

    @property
    def low_code(self) -> float:
        """The least centred code q - zero_point."""
        return -self.zero_point

    @property
    def high_code(self) -> float:
        """The greatest centred code."""
        return 2**self.n_bits - 1 - self.zero_point

    def codes(self, x: Tensor) -> Tensor:
        return (torch.round(x / self.scale) + self.zero_point).clamp_(0, 2**self.n_bits - 1).long()

    def values(self, codes: Tensor) -> Tensor:
        return (codes.double() - self.zero_point) * self.scale

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mul(x, 1 / self.scale).round_().clamp_(self.low_code, self.high_code).mul_(self.scale)


@dataclass(frozen=True)
class SplitGrid(Grid):
    """Two affine grids for the channels before and from `channel` on of dimension `channel_dim`.

    Q-Diffusion's shortcut splitting (arXiv 2302.04304, §3.3): the skip's part of a U-Net's concatenation has a range of
    its own. Codes of the second part follow those of the first.
    """

    form: ClassVar[str] = "split"
    channel: int
    channel_dim: int
    scale: float
    zero_point: float
    skip_scale: float
    skip_zero_point: float

    @property
    def parts(self) -> tuple[AffineGrid, AffineGrid]:
        """The grids of the two channel ranges."""
        first = AffineGrid(self.n_bits, self.scale, self.zero_point)
        return first, AffineGrid(self.n_bits, self.skip_scale, self.skip_zero_point)

    @property
    def num_levels(self) -> int:
        return 2 ** (self.n_bits + 1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two channel ranges of an input."""
        size = x.shape[self.channel_dim]
        first, second = x.split((self.channel, size - self.channel), self.channel_dim)
        return first, second

    def codes(self, x: Tensor) -> Tensor:
        first, second = (grid.codes(part) for grid, part in zip(self.parts, self.split(x), strict=True))
        return torch.cat([first, second + 2**self.n_bits], self.channel_dim)

    def values(self, codes: Tensor) -> Tensor:
        half = 2**self.n_bits
        first, second = self.parts
        return torch.where(codes < half, first.values(codes), second.values(codes - half))

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([grid(part) for grid, part in zip(self.parts, self.split(x), strict=True)], self.channel_dim)
