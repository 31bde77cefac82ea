"""Single layers: every setting of a method reaches the searches of weight and input."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer, quantize_operand
from qvd.backends.simulated import SIMULATION
from qvd.calibration.observers import HistogramObserver
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.range_search import histogram_parameters, thresholds
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import quantize_weight
from qvd.spec.rules import SiteBits

SETTINGS = LayerSettings(RangeMethod.lp, RangeMethod.lp, 2.4, bias_correction=False)
BITS = SiteBits(4, 3, "test")
CASES = [
    ({"p_norm": 8.0}, {"p_norm": 8.0}, {"p_norm": 8.0}),
    ({"num_candidates": 3}, {"factors": thresholds(3)}, {"factors": thresholds(3)}),
    ({"symmetric_weights": True}, {"symmetric": True}, {}),
    ({"symmetric_activations": True}, {}, {"symmetric": True}),
]


def record_of(x):
    observer = HistogramObserver(-1)
    observer.update(x)
    return observer.result()


@pytest.fixture
def layer():
    """Weights and inputs with an outlier each, so that every option makes a difference."""
    layer = nn.Linear(300, 2)
    layer.weight.data = torch.randn(2, 300, generator=torch.Generator().manual_seed(1))
    layer.weight.data[:, 7] = 40.0
    return layer.requires_grad_(False)


@pytest.fixture
def record():
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(2))
    x[3, 5] = 40.0
    return record_of(x)


@pytest.mark.parametrize(("changed", "of_weight", "of_input"), CASES, ids=lambda v: ",".join(v))
def test_settings_reach_both_searches(changed, of_weight, of_input, layer, record):
    found, plain = (
        quantize_layer("x", layer, BITS, record, settings) for settings in (replace(SETTINGS, **changed), SETTINGS)
    )
    weight = quantize_weight(layer.weight, 4, RangeMethod.lp, **of_weight)
    assert torch.equal(found.weight.scale, weight.scale) and torch.equal(found.weight.codes, weight.codes)
    grid = histogram_parameters(record.histogram, record.low, record.high, 3, RangeMethod.lp, **of_input)
    assert (found.grid.n_bits, found.grid.scale, found.grid.zero_point) == (3, *grid)
    assert (found.grid == plain.grid) == (not of_input)
    assert torch.equal(found.weight.scale, plain.weight.scale) == (not of_weight)


def test_range_methods_are_chosen_apart(layer, record):
    mixed = replace(SETTINGS, activation_range=RangeMethod.minmax)
    found = quantize_layer("x", layer, BITS, record, mixed)
    assert found.grid.scale == pytest.approx((40 - record.low) / 7)
    assert (found.weight.scale < (40 - layer.weight.amin(1)) / 15).all()
    found = quantize_layer("x", layer, BITS, record, replace(SETTINGS, weight_range=RangeMethod.minmax))
    assert found.grid.scale < (40 - record.low) / 7
    torch.testing.assert_close(found.weight.scale, (40 - layer.weight.amin(1)) / 15)


def test_a_symmetric_method_leaves_never_negative_inputs_unsigned():
    settings = replace(SETTINGS, activation_range=RangeMethod.minmax, symmetric_activations=True)
    grid = quantize_operand(
        "attn.probabilities", SiteBits(None, 4, "test"), record_of(torch.tensor([[0.0, 7.5]])), settings
    ).grid
    assert (grid.scale, grid.zero_point) == (0.5, 0)
    grid = quantize_operand("attn.q", SiteBits(None, 4, "test"), record_of(torch.tensor([[-0.5, 3.5]])), settings).grid
    assert (grid.scale, grid.zero_point) == (0.5, 8)


@pytest.mark.parametrize("border_correction", [True, False])
@torch.no_grad()
def test_a_shift_is_taken_back_at_the_border_or_as_one_constant(border_correction):
    """A 3 × 3 kernel of ones on an image of threes, shifted by 2: the corner sees 4 pixels of 3 and 5 of padding.

    Corrected, 4·3; else the padding stands for the shift, as if 5 more pixels were 2.
    """
    conv = nn.Conv2d(1, 1, 3, padding=1)
    conv.weight.data.fill_(1.0)
    conv.bias.data.fill_(0.25)
    settings = replace(SETTINGS, border_correction=border_correction)
    choice = LayerChoice(ChannelTransform(torch.tensor([2.0])))
    spec = quantize_layer("x", conv, SiteBits(None, None, "test"), record_of(torch.full((1, 1), 3.0)), settings, choice)
    output = SIMULATION.layer(conv, spec)(torch.full((1, 1, 4, 4), 3.0))[0, 0]
    assert output[1, 1] == 9 * 3 + 0.25
    assert output[0, 0] == 4 * 3 + 0.25 + (0 if border_correction else 5 * 2)
    assert output[0, 1] == 6 * 3 + 0.25 + (0 if border_correction else 3 * 2)
    assert (spec.border is None) == (not border_correction)
