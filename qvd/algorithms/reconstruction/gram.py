"""Layer-wise AdaRound in Gram form: all of the data at the price of one K×K matrix per step.

‖Ŵ·X̂ - T‖² = tr(ΔW·H·ΔWᵀ) + 2·tr(ΔW·Gᵀ) + ‖W·X̂ - T‖² with ΔW = Ŵ - W, H = X̂·X̂ᵀ and G = (W·X̂ - T)·X̂ᵀ. X̂ are the quantized
inputs and T the floating-point outputs, so the cross-Gram G carries what quantized inputs already cost, and the
rounding makes up for part of it. With floating-point inputs G = 0. The gradient 2(ΔW·H + G) goes through ŵ(α) by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qvd.backends.trainable import TrainedLayer
from qvd.calibration.rows import receptive_fields
from qvd.graph.sites import Weighted
from qvd.numerics.adaround import STRETCH_HIGH, STRETCH_LOW, annealed_beta, initial_alpha
from qvd.options.reconstruction import AdaRoundSettings
from qvd.spec.quantization import LayerQuantization

TAPS_AT_ONCE = 64  # taps between two updates of all slopes


@dataclass(frozen=True)
class Errors:
    """‖Ŷ - Y‖²/‖Y‖² of a unit before and after learning; the better one was kept."""

    before: float
    after: float

    @property
    def improved(self) -> bool:
        return self.after < self.before


class LayerGram:
    """The sums over data that a layer's output error is a function of; everything float32 but its float64 sums.

    Attributes:
        gram: (K, K) H; K = in_channels · kernel taps.
        cross: (out_channels, K) G for `weight`.
        residual: ‖W·X̂ - T‖².
        num_rows: how many outputs (entries × space) went in.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.flatten(1)
        out, size = self.weight.shape
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=weight.device)
        self.cross = torch.zeros(out, size, dtype=torch.float64, device=weight.device)
        self.residual = 0.0
        self.num_rows = 0

    def update(self, rows: Tensor, targets: Tensor) -> None:
        """Add inputs (n, K) and what the linear map should make of them, (n, out_channels)."""
        error = rows @ self.weight.T - targets
        self.gram += rows.T @ rows
        self.cross += error.T @ rows
        self.residual += error.square().sum().item()
        self.num_rows += len(rows)

    def error(self, weight: Tensor) -> float:
        """‖Ŵ·X̂ - T‖² over all rows, in float64."""
        change = (weight.flatten(1) - self.weight).double()
        return ((change @ self.gram + 2 * self.cross) * change).sum().item() + self.residual


def input_rows(layer: Weighted, input: Tensor) -> Tensor:
    """(n, in_channels · taps): what every output of an ungrouped layer sees, zeros where taps fall on the padding."""
    if isinstance(layer, nn.Linear):
        return input.reshape(-1, input.shape[-1])
    rank = len(layer.kernel_size)
    return receptive_fields(layer, input, 0.0).movedim(1, 1 + rank).flatten(1 + rank).flatten(0, rank)


def output_rows(layer: Weighted, output: Tensor) -> Tensor:
    """(n, out_channels) of a layer's output, in the order of `input_rows`."""
    return (
        output.reshape(-1, output.shape[-1]) if isinstance(layer, nn.Linear) else output.movedim(1, -1).flatten(0, -2)
    )


@torch.no_grad()
def learn_layer(trained: TrainedLayer, batches: Iterable[tuple[Tensor, Tensor]], settings: AdaRoundSettings) -> Errors:
    """Learn one ungrouped layer's rounding and leave it with the better of the learned and the initial one.

    Args:
        trained: with a quantized weight.
        batches: (inputs as the quantized model gives them, floating-point outputs).
    """
    layer = trained.layer[0]
    sums, power = LayerGram(trained.target_weight), 0.0
    for input, output in batches:
        effective = trained.effective_input(input)
        targets = output_rows(layer, output) - output_rows(layer, trained.offset(effective).expand_as(output))
        sums.update(input_rows(layer, effective), targets)
        power += output.square().sum().item()
    before = sums.error(trained.initial_weight)
    trained.harden(settle(trained, sums, descend(trained, sums, settings), settings.sweeps))
    after = sums.error(trained.weight)
    errors = Errors(before / max(power, 1e-30), after / max(power, 1e-30))
    if not errors.improved:
        trained.harden(None)
    return errors


def descend(trained: TrainedLayer, sums: LayerGram, settings: AdaRoundSettings) -> Tensor:
    """α after Adam on the layer's error per output position plus the regularizer."""
    assert trained.quantization.weight is not None
    shape = trained.target_weight.shape
    weight, step, zero_point = (
        t.expand(shape).flatten(1) for t in (trained.target_weight, trained.step, trained.zero_point)
    )
    alpha = initial_alpha(weight, step)
    alpha.grad = torch.empty_like(alpha)
    optimizer = torch.optim.Adam([alpha], settings.learning_rate, fused=True)
    levels = 2**trained.quantization.weight.n_bits - 1
    lowest = ((weight / step).floor() + zero_point).clamp(-1, levels)
    # Both clamps of ŵ(α) as one, on h: where the codes' own clamp decides, h decides nothing and α may rest.
    least, greatest = (-lowest).clamp(0, 1), (levels - lowest).clamp(0, 1)
    gram, cross = ((2 / sums.num_rows * t).float() for t in (sums.gram, sums.cross))
    start = (lowest - zero_point) * step - weight
    for iteration in range(settings.iterations):
        beta = annealed_beta(iteration, settings.iterations, settings.warmup, settings.beta_start, settings.beta_end)
        sigmoid = alpha.sigmoid()
        stretched = sigmoid.mul(STRETCH_HIGH - STRETCH_LOW).add_(STRETCH_LOW)
        up = stretched.clamp(least, greatest)
        slope = torch.addmm(cross, torch.addcmul(start, step, up), gram).mul_(step)
        if beta is not None:
            centred = up.mul(2).sub_(1)
            slope.sub_(centred.abs().pow_(beta - 1).copysign_(centred), alpha=2 * beta * settings.regularization)
        slope.mul_(torch.addcmul(sigmoid, sigmoid, sigmoid, value=-1)).mul_(STRETCH_HIGH - STRETCH_LOW)
        torch.mul(slope, up == stretched, out=alpha.grad)
        optimizer.step()
    return alpha.view(shape)


@torch.no_grad()
def settle(trained: TrainedLayer, sums: LayerGram, alpha: Tensor, sweeps: int) -> Tensor:
    """α after coordinate descent on the hardened roundings (ours): each is flipped where that alone lowers the error.

    Adam ends next to a minimum of the relaxed error; this ends in one of the rounded error, which it never raises. One
    input tap after the other, all outputs at once, since they do not interact: a flip by d changes the error by
    d·(2·slope + d·H_kk).

    Args:
        sweeps: passes over all taps, at most; it ends with the first that flips nothing.
    """
    assert trained.quantization.weight is not None
    shape, levels = trained.target_weight.shape, 2**trained.quantization.weight.n_bits - 1
    # (taps, outputs): a tap's roundings lie side by side.
    weight, step, zero_point, start = (
        t.expand(shape).flatten(1).T.contiguous()
        for t in (trained.target_weight, trained.step, trained.zero_point, alpha)
    )
    lowest = (weight / step).floor() + zero_point
    down, above = ((code.clamp(0, levels) - zero_point) * step for code in (lowest, lowest + 1))
    up, gram = start >= 0, (sums.gram / sums.num_rows).float()
    move = torch.where(up, down - above, above - down)  # what flipping adds to the weight
    slope = torch.addmm((sums.cross.T / sums.num_rows).float(), gram, torch.where(up, above, down) - weight)
    for _ in range(sweeps):
        before = up.clone()
        for taps in torch.arange(len(gram)).split(TAPS_AT_ONCE):
            span = slice(int(taps[0]), int(taps[-1]) + 1)
            moved = _settle_taps(up[span], move[span], slope[span].clone(), gram[span, span])
            slope.addmm_(gram[:, span], moved)
        if torch.equal(up, before):
            break
    return torch.where(up, 1.0, -1.0).T.reshape(shape)


def _settle_taps(up: Tensor, move: Tensor, slope: Tensor, gram: Tensor) -> Tensor:
    """Visit a few taps in order, flipping `up` and `move` (taps, outputs) in place; what was added to the weights."""
    moved = torch.zeros_like(move)
    for k, curvature in enumerate(gram.diagonal().tolist()):
        better = move[k] * (2 * slope[k] + curvature * move[k]) < 0
        torch.where(better, move[k], moved[k], out=moved[k])
        slope[k + 1 :].addr_(gram[k, k + 1 :], moved[k])
        up[k] ^= better
        move[k].copy_(torch.where(better, -move[k], move[k]))
    return moved


def adaround_layer(
    layer: Weighted,
    quantization: LayerQuantization,
    inputs: Tensor,
    settings: AdaRoundSettings,
    targets: Tensor | None = None,
    correction: Tensor | None = None,
) -> tuple[LayerQuantization, Errors]:
    """Learn the rounding of one layer from its inputs.

    Args:
        layer: the floating-point layer, ungrouped.
        quantization: where learning starts, with a quantized weight; its input grid is in force while learning.
        inputs: the layer's input, as forward takes it.
        targets: the output to come close to; None: the floating-point layer's on `inputs`.
        correction: see `TrainedLayer`.
    """
    trained = TrainedLayer(layer, quantization, correction)
    with torch.no_grad():
        targets = layer(inputs) if targets is None else targets
    errors = learn_layer(trained, [(inputs, targets)], settings)
    return trained.result(), errors
