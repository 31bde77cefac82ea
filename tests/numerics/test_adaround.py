"""AdaRound's maths against golden numbers of Q-Diffusion's public code, and its schedule."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qvd.numerics.adaround import (
    annealed_beta,
    hard_codes,
    initial_alpha,
    regularizer,
    rounding_up,
    soft_codes,
)
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import quantize_weight

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "qdiffusion_affine.npz")
# Q-Diffusion leaves 0 out of the range of a channel whose minimum is positive; we include it.
POSITIVE_CHANNELS = {"w_linear": [3]}


def golden(key):
    return torch.from_numpy(np.asarray(GOLDEN[key]))


@pytest.fixture(params=["w_linear", "w_conv2d", "w_conv1d"])
def case(request):
    """Weight, its mse quantizer at 4 bits, and the golden α, soft and hard weights, of comparable channels."""
    weight = golden(request.param)
    keep = [c for c in range(len(weight)) if c not in POSITIVE_CHANNELS.get(request.param, [])]
    scale, zero_point = (t[keep] for t in quantize_weight(weight, 4, RangeMethod.lp).parameters())
    expected = {part: golden(f"{request.param}_b4_adaround_{part}")[keep] for part in ("alpha", "soft", "hard")}
    return weight[keep], scale, zero_point, expected


def test_alpha_agrees_with_golden(case):
    weight, scale, _, expected = case
    alpha = initial_alpha(weight, scale)
    # A float32 ulp of w/Δ is magnified where α is steep: compare h there, and α where it is not.
    torch.testing.assert_close(rounding_up(alpha), rounding_up(expected["alpha"]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alpha, expected["alpha"], rtol=1e-5, atol=3e-5)


def test_soft_weight_agrees_with_golden(case):
    weight, scale, zero_point, expected = case
    up = rounding_up(initial_alpha(weight, scale))
    soft = (soft_codes(weight, scale, zero_point, 4, up) - zero_point) * scale
    torch.testing.assert_close(soft, expected["soft"], rtol=1e-5, atol=1e-6)


def test_hard_weight_agrees_with_golden(case):
    weight, scale, zero_point, expected = case
    codes = hard_codes(weight, scale, zero_point, 4, initial_alpha(weight, scale))
    difference = ((codes - zero_point) * scale - expected["hard"]).abs() / scale
    assert (difference > 1e-3).float().mean() < 1e-3, "at most a tie may fall to the other side"


def test_hard_rounding_by_hand():
    """Three bits, Δ = 2, z = 3: up where α ≥ 0, and never out of 0 … 7."""
    weight, alpha = torch.tensor([2.4, 2.4, 2.4, -1.0, 8.4, 99.0, -99.0]), torch.tensor([0.0, -0.1, 3.0, 0.1, 1, 1, -1])
    assert hard_codes(weight, torch.tensor(2.0), torch.tensor(3.0), 3, alpha).tolist() == [5, 4, 5, 3, 7, 7, 0]


def test_learning_starts_at_the_weight_itself(case):
    weight, scale, zero_point, _ = case
    up = rounding_up(initial_alpha(weight, scale))
    soft = (soft_codes(weight, scale, zero_point, 4, up) - zero_point) * scale
    inside = (weight > -zero_point * scale) & (weight < (15 - zero_point) * scale)
    torch.testing.assert_close(soft[inside], weight[inside], rtol=1e-4, atol=1e-5)


def test_regularizer_vanishes_at_0_and_1_alone():
    assert regularizer(torch.tensor([0.0, 1.0, 1.0]), 20.0) == 0
    assert regularizer(torch.tensor([0.5]), 2.0) == 1
    assert regularizer(torch.tensor([0.2]), 20.0) > regularizer(torch.tensor([0.2]), 2.0)


def test_beta_waits_and_then_falls_linearly():
    betas = [annealed_beta(i, 1000, 0.2, 20.0, 2.0) for i in (0, 199, 200, 600, 999)]
    assert betas[:2] == [None, None]
    assert betas[2:] == pytest.approx([20.0, 11.0, 2.0225])
