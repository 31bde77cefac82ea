"""Shift and scale of input channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChannelTransform:
    """x'' = (x - shift)/scale per input channel, each (channels,) float32 or None."""

    shift: Tensor | None = None
    scale: Tensor | None = None

    @property
    def is_identity(self) -> bool:
        return self.shift is None and self.scale is None

    def to(self, device: torch.device) -> ChannelTransform:
        """The same transform for inputs on another device."""
        return ChannelTransform(*(None if t is None else t.to(device) for t in (self.shift, self.scale)))

    def __call__(self, x: Tensor, dim: int) -> Tensor:
        """x'' of an `x` whose channels lie on dimension `dim`."""
        shape = [1] * x.dim()
        shape[dim] = -1
        if self.shift is not None:
            x = x - self.shift.view(shape)
        return x if self.scale is None else x / self.scale.view(shape)


IDENTITY = ChannelTransform()


def scale_input_channels(weight: Tensor, scale: Tensor, groups: int = 1) -> Tensor:
    """W·c: weight (out, in/groups, …) times scale (in,) along the input channels."""
    out = weight.shape[0]
    per_group = scale.view(groups, 1, -1).expand(groups, out // groups, -1).reshape(out, -1)
    return weight * per_group.view(*per_group.shape, *[1] * (weight.dim() - 2))
