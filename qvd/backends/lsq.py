"""LSQ: learned step sizes of activation quantizers (Esser et al. 2020, arXiv 1902.08153, eq. 1-5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qvd.numerics.grids import AffineGrid, InputGrid, SplitGrid


class LearnedStep(torch.autograd.Function):
    """x̂ = Δ·clamp(round(x/Δ), low, high) with LSQ's gradients; low = -z and high = 2^b - 1 - z are centred codes.

    ∂x̂/∂x is 1 inside the range and 0 outside; ∂x̂/∂Δ is round(x/Δ) - x/Δ inside, `low` or `high` outside, and is scaled
    by 1/√(N·(high - low)), N the number of elements of `x`, so that steps and weights learn at a like pace.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
        ratio = x / scale
        codes = ratio.round().clamp_(low, high)
        ctx.save_for_backward(ratio, codes)
        ctx.bounds = (low, high)
        return codes * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ratio, codes = ctx.saved_tensors
        low, high = ctx.bounds
        inside = (ratio >= low) & (ratio <= high)
        slope = torch.where(inside, codes - ratio, codes)
        gradient_scale = 1 / (ratio.numel() * (high - low)) ** 0.5
        step_gradient = (gradient * slope).sum() * gradient_scale if ctx.needs_input_grad[1] else None
        return gradient * inside, step_gradient, None, None


class StepQuantizer(nn.Module):
    """A grid that gradients pass through; an affine grid's scale can be learned."""

    def __init__(self, grid: InputGrid | None) -> None:
        super().__init__()
        self.initial = grid
        scale = grid.scale if isinstance(grid, AffineGrid) else 1.0
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

    @property
    def grid(self) -> InputGrid | None:
        """The grid with the scale as learned."""
        if not isinstance(self.initial, AffineGrid):
            return self.initial
        return AffineGrid(self.initial.n_bits, self.scale.item(), self.initial.zero_point)

    @property
    def is_learnable(self) -> bool:
        return isinstance(self.initial, AffineGrid)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.initial, AffineGrid):
            quantized: Tensor = LearnedStep.apply(x, self.scale, self.initial.low_code, self.initial.high_code)
            return quantized
        # Straight through: the grid's value, the identity's gradient.
        return x if self.initial is None else x + (self.initial(x.detach()) - x.detach())


class SplitStepQuantizer(nn.Module):
    """The two quantizers of a split shortcut, each with a scale of its own."""

    def __init__(self, grid: SplitGrid) -> None:
        super().__init__()
        self.initial: SplitGrid = grid
        self.parts: Any = nn.ModuleList(StepQuantizer(part) for part in grid.parts)

    @property
    def grid(self) -> SplitGrid:
        """The grid with the scales as learned."""
        first, skip = self.parts
        return replace(self.initial, scale=first.scale.item(), skip_scale=skip.scale.item())

    def forward(self, x: Tensor) -> Tensor:
        halves = zip(self.parts, self.initial.split(x), strict=True)
        return torch.cat([quantizer(half) for quantizer, half in halves], self.initial.channel_dim)
