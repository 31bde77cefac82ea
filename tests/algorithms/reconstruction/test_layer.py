"""Layers while they are learned: the same numbers as when they run, and AdaRound in Gram form."""

import pytest
import torch
from torch import nn

from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer
from qvd.algorithms.reconstruction import gram
from qvd.algorithms.reconstruction.engine import bias_corrections
from qvd.algorithms.reconstruction.gram import (
    Errors,
    LayerGram,
    adaround_layer,
    descend,
    input_rows,
    output_rows,
    settle,
)
from qvd.backends.simulated import SIMULATION
from qvd.backends.trainable import TrainedLayer
from qvd.calibration.observers import HistogramObserver
from qvd.graph.sites import channel_dim
from qvd.numerics.adaround import annealed_beta, regularizer
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import AffineGrid
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import Quantization
from qvd.spec.rules import SiteBits

CASES = {
    "linear": (lambda: nn.Linear(6, 5), (40, 6)),
    "conv2d": (lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1), (4, 6, 7, 7)),
    "unpadded": (lambda: nn.Conv2d(6, 5, 1), (4, 6, 5, 5)),
    "temporal": (lambda: nn.Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0)), (2, 6, 5, 3, 3)),
    "strided and dilated": (
        lambda: nn.Conv3d(6, 5, (3, 1, 1), stride=(2, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)),
        (2, 6, 7, 3, 3),
    ),
    "conv3d": (lambda: nn.Conv3d(6, 5, 3, padding=1), (2, 6, 4, 3, 3)),
}


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    make, shape = CASES[request.param]
    layer = make().requires_grad_(False)
    mean = torch.linspace(-1, 2, 6)
    x = torch.randn(shape) + (mean if isinstance(layer, nn.Linear) else mean.view(-1, *[1] * (len(shape) - 2)))
    return layer, x


BITS = SiteBits(3, 6, "test")


def quantized(layer, x, bits=BITS, bias_correction=True, transform=True, weight=None):
    observer = HistogramObserver(channel_dim(layer))
    observer.update(x)
    record = observer.result()
    shift = (record.channel_max + record.channel_min) / 2
    how = ChannelTransform(shift, torch.linspace(1, 3, 6)) if transform else ChannelTransform()
    settings = LayerSettings(RangeMethod.lp, RangeMethod.lp, 2.4, bias_correction)
    grid = None if bits.activation is None else AffineGrid(6, 0.1, 31.0)
    quantization = quantize_layer("x", layer, bits, record, settings, LayerChoice(how, grid=grid, weight=weight))
    correction = (
        bias_corrections(Quantization({"x": quantization}, {}), {"x": record})["x"] if bias_correction else None
    )
    return quantization, correction


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("transform", [True, False])
def test_a_learnable_layer_is_the_layer_that_runs(case, bias_correction, transform):
    layer, x = case
    quantization, correction = quantized(layer, x, bias_correction=bias_correction, transform=transform)
    trained = TrainedLayer(layer, quantization, correction)
    torch.testing.assert_close(trained(x), SIMULATION.layer(layer, quantization)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_what_was_learned_is_what_runs(case, bias_correction):
    """Other codes change the corrected bias and border: the result must say so."""
    layer, x = case
    quantization, correction = quantized(layer, x, bias_correction=bias_correction)
    trained = TrainedLayer(layer, quantization, correction)
    trained.harden(torch.randn_like(layer.weight))
    result = trained.result()
    assert (result.weight.codes != quantization.weight.codes).any()
    torch.testing.assert_close(trained(x), SIMULATION.layer(layer, result)(x), rtol=1e-4, atol=1e-4)


def test_learned_codes_get_the_bias_correction_that_they_would_have_had_from_the_start(case):
    layer, x = case
    quantization, correction = quantized(layer, x)
    trained = TrainedLayer(layer, quantization, correction)
    trained.harden(torch.randn_like(layer.weight))
    learned = trained.result()
    afresh, _ = quantized(layer, x, weight=learned.weight)
    for got, expected in ((learned.bias, afresh.bias), (learned.border, afresh.border)):
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_gram_error_is_the_error_of_the_outputs(case):
    layer, x = case
    quantization, correction = quantized(layer, x)
    trained, output = TrainedLayer(layer, quantization, correction), layer(x)
    sums = LayerGram(trained.target_weight)
    effective = trained.effective_input(x)
    targets = output_rows(layer, output) - output_rows(layer, trained.offset(effective).expand_as(output))
    for part in torch.arange(len(targets)).chunk(3):
        sums.update(input_rows(layer, effective)[part], targets[part])
    direct = (trained(x) - output).square().sum().item()
    assert sums.error(trained.weight) == pytest.approx(direct, rel=1e-3)


def test_descent_follows_autograd():
    """Ten steps with and without the regularizer, against the same Adam on the plain loss."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5).requires_grad_(False), torch.randn(64, 6)
    quantization, _ = quantized(layer, x, SiteBits(3, None, "test"), bias_correction=False, transform=False)
    layer.weight[0, 0], layer.weight[1, 1] = 5.0, -5.0  # clipped by more than a level
    settings = AdaRoundSettings(
        iterations=10, learning_rate=0.05, regularization=1.0, warmup=0.5, beta_start=8.0, beta_end=3.0
    )
    noisy, target = x + 0.1 * torch.randn_like(x), x @ layer.weight.T
    trained = TrainedLayer(layer, quantization)
    sums = LayerGram(trained.target_weight)
    sums.update(noisy, target)
    found = descend(trained, sums, settings)
    alpha = trained.start_rounding()
    optimizer = torch.optim.Adam([alpha], settings.learning_rate)
    for i in range(settings.iterations):
        up = trained.soften()
        loss = (noisy @ trained.weight.T - target).square().sum(-1).mean()
        beta = annealed_beta(i, 10, 0.5, 8.0, 3.0)
        if beta is not None:
            loss = loss + regularizer(up, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Where the codes' own clamp decides, α decides nothing.
    lowest = (trained.target_weight / trained.step).floor() + trained.zero_point
    free = (lowest >= 0) & (lowest < 7)
    torch.testing.assert_close(found[free], alpha.detach()[free], rtol=1e-3, atol=1e-3)
    trained.harden(found)
    by_descent = trained.learned_codes
    trained.harden(alpha)
    assert torch.equal(trained.learned_codes, by_descent)


def test_no_single_flip_improves_on_a_settled_rounding(monkeypatch):
    """Against brute force, from random roundings, over several spans of taps."""
    monkeypatch.setattr(gram, "TAPS_AT_ONCE", 4)
    torch.manual_seed(0)
    layer = nn.Linear(10, 3).requires_grad_(False)
    x = torch.randn(64, 10) @ torch.randn(10, 10)
    quantization, _ = quantized(layer, x, SiteBits(3, None, "test"), bias_correction=False, transform=False)
    trained = TrainedLayer(layer, quantization)
    sums = LayerGram(trained.target_weight)
    sums.update(x + 0.1 * torch.randn_like(x), x @ layer.weight.T)

    def error(alpha):
        trained.harden(alpha)
        return sums.error(trained.weight)

    start = torch.randn_like(layer.weight)
    settled = settle(trained, sums, start, sweeps=50)
    assert error(settled) < 0.9 * error(start)
    for position in range(settled.numel()):
        flipped = settled.clone()
        flipped[divmod(position, 10)] *= -1
        assert error(flipped) >= error(settled) * (1 - 1e-6)
    assert torch.equal(settle(trained, sums, start, sweeps=0) > 0, start >= 0)


def test_adaround_beats_nearest_and_uses_quantized_inputs(case):
    layer, x = case
    quantization, correction = quantized(layer, x, bias_correction=False, transform=False)
    learned, errors = adaround_layer(layer, quantization, x, AdaRoundSettings(iterations=300), correction=correction)
    assert errors.improved

    def error(q):
        return (SIMULATION.layer(layer, q)(x) - layer(x)).square().sum() / layer(x).square().sum()

    assert error(learned).item() == pytest.approx(errors.after, rel=1e-2)
    assert error(learned) < error(quantization)
    assert (learned.weight.scale == quantization.weight.scale).all()
    # One step up or down of the floor, never further.
    assert (learned.weight.codes.int() - quantization.weight.codes.int()).abs().max() == 1


def test_equal_errors_are_no_improvement():
    assert Errors(2.0, 1.0).improved and not Errors(1.0, 1.0).improved


def test_the_better_rounding_is_kept():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5).requires_grad_(False), torch.randn(64, 6)
    quantization, _ = quantized(layer, x, SiteBits(3, None, "test"), bias_correction=False, transform=False)
    # A regularizer this strong, from a learning rate this large, drives roundings anywhere.
    settings = AdaRoundSettings(iterations=20, learning_rate=5.0, regularization=1e4, warmup=0.0, sweeps=0)
    learned, errors = adaround_layer(layer, quantization, x, settings)
    assert errors.after > errors.before
    assert torch.equal(learned.weight.codes, quantization.weight.codes)
