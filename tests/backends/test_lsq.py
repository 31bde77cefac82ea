"""LSQ's gradients against finite differences, and what a learned step leaves behind."""

import pytest
import torch

from qvd.backends.lsq import LearnedStep, SplitStepQuantizer, StepQuantizer
from qvd.numerics.grids import AffineGrid, PowerGrid, SplitGrid

LOW, HIGH = -5.0, 10.0


def step_gradient(x, scale):
    """dΣx̂/dΔ without LSQ's gradient scale."""
    scale = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    LearnedStep.apply(x, scale, LOW, HIGH).sum().backward()
    return scale.grad.item() * (x.numel() * (HIGH - LOW)) ** 0.5


def difference_quotient(function, at, width=1e-6):
    return (function(at + width) - function(at - width)) / (2 * width)


def test_step_gradient_of_clipped_values_is_the_finite_difference():
    x = torch.tensor([-9.0, -3.7, 8.1, 30.0], dtype=torch.float64)

    def quantized(scale):
        return (scale * (x / scale).round().clamp(LOW, HIGH)).sum().item()

    assert step_gradient(x, 0.5) == pytest.approx(difference_quotient(quantized, 0.5), rel=1e-6)


def test_step_gradient_inside_is_that_of_rounding_with_a_fixed_error():
    """Straight through: round(u) counts as u + r, r constant, so x̂ = Δ·(x/Δ + r)."""
    x = torch.tensor([-2.1, -0.3, 0.6, 1.3, 4.4], dtype=torch.float64)
    error = (x / 0.5).round() - x / 0.5

    def surrogate(scale):
        return (scale * (x / scale + error)).sum().item()

    assert step_gradient(x, 0.5) == pytest.approx(difference_quotient(surrogate, 0.5), rel=1e-5)


def test_gradient_of_the_input_stops_at_the_range():
    x = torch.tensor([-3.0, -1.0, 2.0, 7.0], requires_grad=True)
    LearnedStep.apply(x, torch.tensor(0.5), LOW, HIGH).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_values_are_those_of_the_grid():
    grid, x = AffineGrid(4, 0.5, 5.0), torch.randn(1000) * 4
    torch.testing.assert_close(StepQuantizer(grid)(x), grid(x))
    quantizer = StepQuantizer(grid)
    quantizer.scale.data.fill_(0.25)
    assert quantizer.grid == AffineGrid(4, 0.25, 5.0)


def test_other_grids_pass_gradients_straight_through():
    grid, x = PowerGrid(4, 0.3, 3.0, 0.5), torch.randn(50, requires_grad=True)
    quantized = StepQuantizer(grid)(x)
    quantized.sum().backward()
    torch.testing.assert_close(quantized, grid(x.detach()))
    assert (x.grad == 1).all()


def test_only_affine_grids_have_a_step_to_learn():
    learnable = [
        StepQuantizer(grid).is_learnable for grid in (AffineGrid(4, 0.5, 5.0), PowerGrid(4, 0.3, 3.0, 0.5), None)
    ]
    assert learnable == [True, False, False]


def test_split_quantizer_learns_two_scales():
    grid = SplitGrid(4, 3, 1, 0.5, 5.0, 0.1, 2.0)
    quantizer, x = SplitStepQuantizer(grid), torch.randn(6, 8, 2, 2)
    torch.testing.assert_close(quantizer(x), grid(x))
    quantizer.parts[1].scale.data.fill_(0.2)
    assert (quantizer.grid.scale, quantizer.grid.skip_scale) == pytest.approx((0.5, 0.2))
