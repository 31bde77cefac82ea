"""Affine input grids that are finer than one static grid per tensor: per sampler step, per frame, per token.

Their step differs within a tensor or between calls, so that it cannot be folded into the layer's weight: they give
values, not codes. Each holds plain numbers; what the per-timestep grid needs at run time is bound to it by `bind`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qvd.numerics.affine import affine_parameters
from qvd.numerics.grids import AffineGrid, InputGrid


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
        return _round_to(x, scale, -zero_point, 2**self.n_bits - 1 - zero_point)


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
        return _round_to(framed, scale, low, high).reshape(x.shape)


def frames_apart(x: Tensor, frame_dim: int, num_frames: int) -> Tensor:
    """`x` as (entries, frames, …) where frames are folded into dimension 0; elsewhere `x` itself."""
    return x.unflatten(0, (-1, num_frames)) if frame_dim == 0 else x


@dataclass(frozen=True)
class TimestepGrid(GroupGrid):
    """One static grid per timestep, chosen by the timestep nearest to the denoiser's current one; see `bind`."""

    form: ClassVar[str] = "uniform_per_timestep"
    timesteps: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        raise RuntimeError("a per-timestep grid needs the denoiser's timestep: convert() the whole denoiser")


class CurrentTimestep:
    """The timesteps of the running call, one per entry, shared by all per-timestep grids of one converted denoiser.

    It is the denoiser's forward pre-hook. A deep copy of the denoiser copies it once, for all of its grids.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        self.position = list(inspect.signature(denoiser.forward).parameters).index("timestep")
        self.timesteps: Tensor | None = None
        self._nearest: dict[tuple[float, ...], Tensor] = {}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[self.position]
        self.timesteps = torch.as_tensor(timestep).reshape(-1)
        self._nearest.clear()

    def nearest(self, timesteps: tuple[float, ...], device: torch.device) -> Tensor:
        """(entries,) int64: for each entry of the running call, the position of the nearest of `timesteps`."""
        if timesteps not in self._nearest:
            if self.timesteps is None:
                raise RuntimeError("per-timestep grids: the layer was called outside of the denoiser's forward")
            offered = torch.tensor(timesteps, dtype=torch.float64, device=device)
            distance = self.timesteps.to(device, torch.float64)[:, None] - offered
            self._nearest[timesteps] = distance.abs().argmin(1)
        return self._nearest[timesteps]


@dataclass(frozen=True)
class BoundTimestepGrid(TimestepGrid):
    """A `TimestepGrid` in a converted denoiser. Dimension 0 of its inputs runs over entries, then frames or pixels."""

    current: CurrentTimestep

    def __call__(self, x: Tensor) -> Tensor:
        nearest = self.current.nearest(self.timesteps, x.device)
        shape = (-1, *[1] * x.dim())
        scale, low, high = (p[nearest].view(shape) for p in self.parameters(x.device))
        return _round_to(x.unflatten(0, (len(nearest), -1)), scale, low, high).reshape(x.shape)


def bind(grid: InputGrid | None, current: CurrentTimestep) -> InputGrid | None:
    """`grid`, knowing where to find the running call's timestep if it needs that."""
    if not isinstance(grid, TimestepGrid):
        return grid
    return BoundTimestepGrid(grid.n_bits, grid.scales, grid.zero_points, grid.timesteps, current)


def _round_to(x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Fake quantization with parameters that broadcast against `x`."""
    return torch.mul(x, 1 / scale).round_().clamp_(low, high).mul_(scale)


GROUP_GRIDS: tuple[type[InputGrid], ...] = (TokenGrid, FrameGrid, TimestepGrid)
