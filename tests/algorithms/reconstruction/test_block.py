"""Learning a unit by autograd, on the smallest unit there is: its loss, its settings, and what is kept of it."""

import pytest
import torch
from torch import nn

from qvd.algorithms.reconstruction.activations import CachedActivations
from qvd.algorithms.reconstruction.block import UnitData, channel_loss, learn_rounding, learn_steps, unit_error
from qvd.backends.trainable import Trainable, TrainedUnit
from qvd.numerics.grids import AffineGrid
from qvd.options.reconstruction import AdaRoundSettings, LsqSettings
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import LayerQuantization, Quantization, quantize_weight

ENTRIES = 32


@pytest.fixture
def make(tmp_path):
    """A Linear with 3-bit weights as a unit, and its data; inputs are noisy, so that other roundings are better."""

    def build(grid=None):
        generator = torch.Generator().manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5)).requires_grad_(False)
        model[0].weight.copy_(torch.randn(5, 6, generator=generator))
        x = torch.randn(ENTRIES, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
        weight = quantize_weight(model[0].weight, 3, RangeMethod.minmax)
        quantization = Quantization({"0": LayerQuantization("0", "linear", "test", weight, grid)}, {})
        caches = []
        for name, value in (("inputs", ((x,), {})), ("targets", model(x))):
            caches.append(CachedActivations.like(tmp_path / name, ENTRIES, value, ENTRIES))
            caches[-1].put(0, value)
        unit = TrainedUnit(model, "0", {"0": model[0]}, quantization, Trainable())
        return unit, UnitData(*caches, torch.device("cpu"))

    return build


def everything(data):
    ((args, _), target) = data.take(range(ENTRIES))
    return args[0], target


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("shape", "channels"), [((2, 3, 4, 5), 3), ((2, 3, 2, 4, 6), 3), ((2, 5, 7), 7), ((4, 6), 6)], ids=str
)
def test_loss_sums_channels_and_averages_the_rest(shape, channels):
    output, target = torch.randn(2, *shape)
    total = (output - target).square().sum()
    torch.testing.assert_close(channel_loss(output, target), total / (output.numel() / channels))


def test_a_batch_holds_different_entries(make):
    _, data = make()
    (args, _), target = data.sample(5, generator())
    x, whole = everything(data)
    found = (args[0][:, None] == x).all(2).nonzero()[:, 1]
    assert len(found.unique()) == len(found) == 5
    assert torch.equal(target, whole[found])


def test_unit_error_is_relative_over_all_entries(make):
    unit, data = make()
    x, target = everything(data)
    expected = (unit.module(x) - target).square().sum() / target.square().sum()
    assert unit_error(unit, data) == pytest.approx(expected.item(), rel=1e-5)


def codes_after(unit, data, **settings):
    errors = learn_rounding(unit, data, AdaRoundSettings(batch_size=ENTRIES, warmup=0.0, **settings), generator())
    layer = unit.layers["0"].result()
    return layer.weight.codes, errors


def test_rounding_is_learned_by_its_settings(make):
    """Free, it improves; where the regularizer outweighs the loss or the rate is tiny, every weight stays nearest."""
    nearest = make()[0].layers["0"].quantization.weight.codes
    free, errors = codes_after(*make(), iterations=150, learning_rate=0.05, regularization=0.0)
    assert errors.improved and not torch.equal(free, nearest)
    strong = {"learning_rate": 0.05, "regularization": 1e6, "beta_start": 2.0}
    for settings in (strong, {"learning_rate": 1e-6, "regularization": 0.0}):
        codes, errors = codes_after(*make(), iterations=50, **settings)
        assert torch.equal(codes, nearest) and errors.after == pytest.approx(errors.before)


def test_a_worse_rounding_is_taken_back(make):
    unit, data = make()
    codes, errors = codes_after(unit, data, iterations=1, learning_rate=1e3, regularization=0.0)
    assert errors.after > errors.before == unit_error(unit, data)
    assert torch.equal(codes, unit.layers["0"].quantization.weight.codes)


def test_steps_follow_a_cosine_to_zero(make):
    """Adam's first steps have the length of the rate, which is all of it, then half."""
    unit, data = make(AffineGrid(4, 2.0, 8.0))
    errors = learn_steps(unit, data, LsqSettings(iterations=2, learning_rate=1e-4, batch_size=ENTRIES), generator())
    assert errors.improved
    assert abs(unit.step_quantizers[0].scale.item() - 2.0) == pytest.approx(1.5e-4, rel=0.02)


def test_worse_steps_are_taken_back_and_none_passes_through_zero(make):
    unit, data = make(AffineGrid(4, 2.0, 8.0))
    (quantizer,), seen = unit.step_quantizers, []
    quantizer.register_forward_pre_hook(lambda module, args: seen.append(module.scale.item()))
    errors = learn_steps(unit, data, LsqSettings(iterations=3, learning_rate=50.0, batch_size=ENTRIES), generator())
    assert errors.after > errors.before == unit_error(unit, data)
    assert quantizer.scale.item() == 2.0 and not quantizer.scale.requires_grad
    assert min(seen) == pytest.approx(0.02)
