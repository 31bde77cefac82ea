"""Affine input grids that are finer than one static grid per tensor: per sampler step, per frame, per token.

Their step differs within a tensor or between calls, so that it cannot be folded into the layer's weight: they give
values, not codes. Each holds plain numbers; what the per-timestep grid needs at run time is bound to it by
`qvd.backends.timestep`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qvd.numerics.affine import affine_parameters
from qvd.numerics.grids.base import InputGrid
from qvd.numerics.grids.uniform import AffineGrid


@dataclass(frozen=True)
class TokenGrid(InputGrid):
    """Asymmetric min-max ranges taken at run time from each token (ViDiT-Q, arXiv 2406.02540, §3).

    Attributes:
        token_dims: the dimensions that one range spans: the channels of a sequence's token, all of one image or clip of
            a convolution (whose sum over pixels needs one scale), all tokens of a head for v.
    """

    form: ClassVar[str] = "uniform_per_token"
    token_dims: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        scale, zero_point = affine_parameters(
            x.amin(self.token_dims, keepdim=True), x.amax(self.token_dims, keepdim=True), self.n_bits
        )
        return round_to(x, scale, -zero_point, 2**self.n_bits - 1 - zero_point)


@dataclass(frozen=True)
class GroupGrid(InputGrid):
    """One affine grid per group: `scales` and `zero_points` in the groups' order."""

    scales: tuple[float, ...]
    zero_points: tuple[float, ...]

    def group(self, number: int) -> AffineGrid:
        """The grid of one group."""
        return AffineGrid(self.n_bits, self.scales[number], self.zero_points[number])

    @property
    def bounds(self) -> tuple[float, float]:
        levels = 2**self.n_bits - 1
        pairs = list(zip(self.scales, self.zero_points, strict=True))
        return min(-z * s for s, z in pairs), max((levels - z) * s for s, z in pairs)

    def parameters(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(scale, least centred code, greatest centred code), each (groups,) float32."""
        scale, zero_point = (torch.tensor(v, device=device) for v in (self.scales, self.zero_points))
        return scale, -zero_point, 2**self.n_bits - 1 - zero_point


@dataclass(frozen=True)
class FrameGrid(GroupGrid):
    """One static grid per frame.

    Attributes:
        frame_dim: the dimension of the frames; 0: frames are folded into the batch, entry by entry.
    """

    form: ClassVar[str] = "uniform_per_frame"
    frame_dim: int

    def by_frame(self, x: Tensor) -> Tensor:
        """A view of `x` with the frames alone on dimension 1 (folded) or `frame_dim`."""
        return frames_apart(x, self.frame_dim, len(self.scales))

    def __call__(self, x: Tensor) -> Tensor:
        framed = self.by_frame(x)
        shape = [1] * framed.dim()
        shape[self.frame_dim or 1] = -1
        scale, low, high = (p.view(shape) for p in self.parameters(x.device))
        return round_to(framed, scale, low, high).reshape(x.shape)


def frames_apart(x: Tensor, frame_dim: int, num_frames: int) -> Tensor:
    """`x` as (entries, frames, …) where frames are folded into dimension 0; elsewhere `x` itself."""
    return x.unflatten(0, (-1, num_frames)) if frame_dim == 0 else x


@dataclass(frozen=True)
class TimestepGrid(GroupGrid):
    """One static grid per timestep, chosen by the timestep nearest to the denoiser's current one."""

    form: ClassVar[str] = "uniform_per_timestep"
    timesteps: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        raise RuntimeError("a per-timestep grid needs the denoiser's timestep: convert() the whole denoiser")


def round_to(x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Fake quantization with parameters that broadcast against `x`."""
    return torch.mul(x, 1 / scale).round_().clamp_(low, high).mul_(scale)
