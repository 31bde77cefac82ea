"""Q-Diffusion on the tiny UNet3D: its order, its split shortcuts, its running statistics."""

from dataclasses import replace

import pytest
import torch

from baselines.qdiffusion import PartWatch, QDiffusion, RunningExtremes, rounded_model
from qvd.algorithms.layerwise import activation_grid
from qvd.backends.convert import convert
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import HistogramObserver
from qvd.graph.sites import operand_sites, weighted_layers
from qvd.numerics.grids import SplitGrid
from qvd.options.reconstruction import AdaRoundSettings, LsqSettings
from qvd.options.rules import RangeMethod
from qvd.options.units import Reconstruction
from qvd.spec.quantization import LayerQuantization, Quantization, quantize_weight
from tests.tiny_unet import context_of

FAST = QDiffusion(
    adaround=AdaRoundSettings(iterations=3, batch_size=2, sweeps=2), lsq=LsqSettings(iterations=2, batch_size=2)
)


def test_running_extremes_are_the_recursion():
    running = RunningExtremes(0.95)
    lows, highs = [-1.0, -3.0, 2.0], [4.0, 2.0, 8.0]
    for low, high in zip(lows, highs, strict=True):
        running.update(low, high)
    assert running.low == pytest.approx(0.95**2 * -1 + 0.95 * 0.05 * -3 + 0.05 * 2)
    assert running.high == pytest.approx(0.95**2 * 4 + 0.95 * 0.05 * 2 + 0.05 * 8)


@pytest.fixture(scope="module")
def quantize(unet, ranges, calibration, adapter):
    def run(method, bits):
        context = context_of(adapter, unet, bits, torch.arange(10))
        entries = calibration if isinstance(calibration, CalibrationSet) else CalibrationSet.from_tensors(calibration)
        return method.quantize(unet, ranges, entries, context)

    return run


@pytest.fixture(scope="module")
def quantization(quantize):
    return quantize(FAST, "w4a8")


def test_no_layer_stays_in_floating_point(unet, quantization):
    assert set(quantization.layers) == set(weighted_layers(unet))
    assert all(layer.weight.n_bits == 4 and layer.grid.n_bits == 8 for layer in quantization.layers.values())
    assert set(quantization.operands) == set(operand_sites(unet))
    assert all(operand.grid.n_bits == 8 for operand in quantization.operands.values())
    softmax = [o.grid for name, o in quantization.operands.items() if name.endswith(".probabilities")]
    assert all(grid.zero_point == 0 for grid in softmax)


def test_shortcuts_are_split_where_the_skip_begins(unet, adapter, quantization):
    splits = adapter.anatomy(unet).shortcuts
    assert splits
    for name, layer in quantization.layers.items():
        assert (layer.weight.split, isinstance(layer.grid, SplitGrid)) == (splits.get(name), name in splits)
        if name in splits:
            assert layer.grid.channel == splits[name] and layer.grid.scale != layer.grid.skip_scale


def test_every_unit_says_what_it_gained(quantization):
    assert all({"rounding_unit", "steps_unit"} <= set(layer.notes) for layer in quantization.layers.values())
    summary = quantization.summary
    assert summary["rounding_error_after"] <= summary["rounding_error_before"]
    assert summary["steps_error_after"] <= summary["steps_error_before"]


@torch.no_grad()
def test_it_runs(unet, quantization, calibration):
    entry = calibration.take([0, 1]) if isinstance(calibration, CalibrationSet) else calibration
    output = convert(unet, quantization)(**entry).sample
    assert output.isfinite().all()


def test_without_learning_it_is_nearest_rounding_with_split_shortcuts(unet, quantize):
    plain = replace(FAST, reconstruction=Reconstruction.none, split_shortcuts=False)
    quantization = quantize(plain, "w4a8")
    for name, layer in quantization.layers.items():
        assert torch.equal(
            layer.weight.codes, quantize_weight(weighted_layers(unet)[name].weight, 4, RangeMethod.lp).codes
        )
    assert not any("rounding_unit" in layer.notes for layer in quantization.layers.values())


def test_running_statistics_replace_the_search(quantize):
    plain = replace(FAST, reconstruction=Reconstruction.none, batch_size=1, only=["conv_in"])
    search, running = (
        quantize(replace(plain, running_stat=stat), "w8a8").layers["conv_in"].grid for stat in (False, True)
    )
    assert running.scale != search.scale


def test_a_grid_is_searched_unless_there_is_a_momentum():
    batches = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [3.0]])
    searched, running = (PartWatch(4, FAST.settings, momentum) for momentum in (None, 0.75))
    for x in batches:
        searched.update(x)
        running.update(x)
    assert searched.grid == activation_grid(observed(*batches), 4, FAST.settings)
    low, high = (0.75 * extreme[0] + 0.25 * extreme[1] for extreme in (batches.amin(1), batches.amax(1)))
    assert running.grid.bounds == pytest.approx((low.item(), high.item()), rel=0.1)
    assert running.grid.scale == pytest.approx(((high - low) / 15).item())


def observed(*batches):
    observer = HistogramObserver(None)
    for x in batches:
        observer.update(x)
    return observer.result()


def test_the_watched_model_has_the_corrected_bias_up_to_the_borders():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2, padding=2, dilation=2))
    weight = quantize_weight(net[0].weight, 4, RangeMethod.minmax)
    corrected = LayerQuantization("0", "conv2d", "all", weight, bias=torch.randn(4), border=torch.randn(4, 1, 3, 3))
    quantization, x = Quantization({"0": corrected}, {}), torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(rounded_model(net, quantization)(x), convert(net, quantization)(x))
