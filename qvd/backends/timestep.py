"""What a per-timestep grid needs while a converted denoiser runs: the timestep of the running call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qvd.numerics.grids import InputGrid, TimestepGrid
from qvd.numerics.grids.groups import round_to


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
        return round_to(x.unflatten(0, (len(nearest), -1)), scale, low, high).reshape(x.shape)


def bind(grid: InputGrid | None, current: CurrentTimestep) -> InputGrid | None:
    """`grid`, knowing where to find the running call's timestep if it needs that."""
    if not isinstance(grid, TimestepGrid):
        return grid
    return BoundTimestepGrid(grid.n_bits, grid.scales, grid.zero_points, grid.timesteps, current)
