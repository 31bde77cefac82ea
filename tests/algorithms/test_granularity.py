"""Grids per timestep, frame and token on a whole UNet3D."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from baselines.naive import Naive
from qvd.algorithms.granularity import frame_dims
from qvd.algorithms.layerwise import activation_grid
from qvd.algorithms.reduction import CALL_BINS
from qvd.backends.convert import convert
from qvd.backends.timestep import CurrentTimestep
from qvd.calibration.calibration_set import SAMPLE_INDEX, CalibrationSet
from qvd.calibration.observers import HistogramObserver
from qvd.numerics.grids import TimestepGrid
from qvd.options.rules import ActivationGranularity, RangeMethod, RangeReduction
from qvd.spec.quantization import Quantization
from tests.tiny_unet import context_of

SPATIAL, TEMPORAL = (f"down_blocks.0.{kind}.0.transformer_blocks.0.attn1" for kind in ("attentions", "temp_attentions"))


def test_frames_are_found_where_they_are(unet, calibration):
    dims = frame_dims(unet, calibration, 8)
    assert dims["conv_in"] == dims["down_blocks.0.resnets.0.conv1"] == 0
    assert dims["down_blocks.0.temp_convs.0.conv1.2"] == 2
    assert dims[f"{SPATIAL}.to_q"] == dims[f"{SPATIAL}.q"] == 0
    assert dims[f"{TEMPORAL}.to_q"] == 1 and dims[f"{TEMPORAL}.probabilities"] == 2
    assert "time_embedding.linear_1" not in dims


def test_frames_that_cannot_be_told_apart_are_not_guessed():
    """Three frames: neither three channels nor one of two dimensions of that length is taken for them."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.frames, self.square, self.channels = (torch.nn.Linear(n, 2) for n in (5, 5, 3))

        def forward(self, x):
            self.frames(x.reshape(4, 3, 5))
            self.square(x[:, :9].reshape(3, 3, 5))
            self.channels(x.reshape(4, 5, 3))

    entries = CalibrationSet.from_tensors({"x": torch.randn(1, 12, 5)})
    assert frame_dims(Net(), entries, 3) == {"frames": 1}


@pytest.fixture(scope="module")
def stepped():
    """A calibration set with two timesteps, the later one five times as loud."""
    from tests.tiny_unet import tiny_calibration

    entries = tiny_calibration(4).take(range(4))
    entries["timestep"] = torch.tensor([900, 100, 900, 100])
    entries["sample"][::2] *= 5
    return CalibrationSet.from_tensors(entries)


def quantize(unet, calibration, adapter, granularity, bits="w8a8"):
    from qvd.calibration.observe import observe

    context = context_of(adapter, unet, bits, torch.tensor([900, 100]))
    method = Naive(activation_granularity=granularity)
    return method.run(unet, observe(unet, calibration), calibration, context)


@pytest.fixture(scope="module")
def quantizations(unet, stepped, adapter):
    return {granularity: quantize(unet, stepped, adapter, granularity) for granularity in ActivationGranularity}


@torch.no_grad()
@pytest.mark.parametrize("granularity", ActivationGranularity)
def test_each_granularity_runs_close_to_the_original_and_round_trips(unet, stepped, quantizations, granularity):
    quantization, entry = quantizations[granularity], stepped.take([0, 2])
    reference = unet(**entry).sample
    converted = convert(unet, quantization)(**entry).sample
    assert (converted - reference).norm() < 0.05 * reference.norm()
    saved = json.loads(json.dumps(quantization.metadata))
    restored = Quantization.from_tensors(quantization.to_tensors(), saved)
    assert restored.map == json.loads(json.dumps(quantization.map))
    assert torch.equal(convert(unet, restored)(**entry).sample, converted)


def test_map_names_the_granularity_and_why_not(quantizations):
    rows = {r["layer"]: r for r in quantizations[ActivationGranularity.frame].map}
    assert (rows["conv_in"]["grid"], rows["conv_in"]["notes"]["granularity"]) == ("uniform_per_frame", "frame")
    alone = [name for name, row in rows.items() if row["grid"] == "uniform"]
    assert all(rows[name]["notes"]["granularity"] == "tensor (no frame axis)" for name in alone)
    rows = {r["layer"]: r for r in quantizations[ActivationGranularity.token].map}
    assert rows[f"{SPATIAL}.to_q"]["range"] is None
    rows = {r["layer"]: r for r in quantizations[ActivationGranularity.timestep].map}
    assert rows["conv_in"]["range"][0] < 0 < rows["conv_in"]["range"][1]


def test_timestep_grids_are_those_of_their_own_entries(unet, stepped, adapter, quantizations):
    loud = CalibrationSet.from_tensors(stepped.take([0, 2]))
    alone = quantize(unet, loud, adapter, ActivationGranularity.tensor)
    for name, layer in quantizations[ActivationGranularity.timestep].layers.items():
        if layer.grid is not None:
            assert layer.grid.timesteps == (900.0, 100.0)
            assert layer.grid.group(0).scale == pytest.approx(alone.layers[name].grid.scale, rel=1e-4)


def at(quantization, number):
    """The static quantization that a per-timestep one is at one of its timesteps."""

    def fixed(site):
        return replace(site, grid=site.grid.group(number)) if isinstance(site.grid, TimestepGrid) else site

    return replace(
        quantization,
        layers={n: fixed(s) for n, s in quantization.layers.items()},
        operands={n: fixed(s) for n, s in quantization.operands.items()},
    )


@torch.no_grad()
def test_the_nearest_timesteps_grids_are_in_force(unet, stepped, quantizations):
    """One layer as the textbook has it, then each call against the static conversions, alone and mixed."""
    quantization = quantizations[ActivationGranularity.timestep]
    model, static = convert(unet, quantization), [convert(unet, at(quantization, i)) for i in (0, 1)]
    entries = stepped.take([0, 1])
    for timestep, expected, other in ((930, *static), (40, *reversed(static))):
        call = {**entries, "timestep": timestep}
        output, close = model(**call).sample, expected(**call).sample
        assert (output - close).norm() < 0.2 * (output - other(**call).sample).norm()
    inputs = {}
    model.conv_in.input_quantizer.register_forward_hook(lambda m, args, out: inputs.update(x=args[0], x_hat=out))
    model(**entries)
    grid = quantization.layers["conv_in"].grid
    halves = zip(inputs["x"].chunk(2), inputs["x_hat"].chunk(2), (0, 1), strict=True)
    for x, x_hat, number in halves:
        torch.testing.assert_close(x_hat, grid.group(number)(x))


@torch.no_grad()
def test_copies_of_a_converted_denoiser_keep_their_own_time(unet, stepped, quantizations):
    entry = stepped.take([0])
    model = convert(unet, quantizations[ActivationGranularity.timestep])
    before = model(**entry).sample
    twin = copy.deepcopy(model)
    twin(**{**entry, "timestep": 100})
    attention = model.get_submodule(TEMPORAL).processor.operands.q
    assert attention.grid.current is model.conv_in.input_quantizer.grid.current
    assert attention.grid.current is not twin.conv_in.input_quantizer.grid.current
    assert attention.grid.current.timesteps.item() == 900
    assert torch.equal(twin(**entry).sample, before)


def test_the_running_calls_timesteps_are_found_by_name_and_by_position():
    class Net(torch.nn.Module):
        def forward(self, sample, timestep):
            return sample

    net = Net()
    current = CurrentTimestep(net)
    net.register_forward_pre_hook(current, with_kwargs=True)
    nearest = []
    for args, kwargs in (((torch.zeros(2), torch.tensor([40, 930])), {}), ((torch.zeros(1),), {"timestep": 800})):
        net(*args, **kwargs)
        nearest.append(current.nearest((900.0, 100.0), torch.device("cpu")).tolist())
    assert nearest == [[1, 0], [0]]


def test_a_layer_called_outside_of_the_denoiser_says_so(unet, quantizations):
    model = convert(unet, quantizations[ActivationGranularity.timestep])
    with pytest.raises(RuntimeError, match="outside of the denoiser's forward"):
        model.conv_in(torch.randn(1, 4, 8, 8))


def released_like(unet, calibration, adapter, granularity):
    from qvd.calibration.observe import observe

    context = context_of(adapter, unet, "w8a8", torch.tensor([900, 100]))
    method = Naive(
        activation_granularity=granularity,
        activation_range=RangeMethod.lp,
        activation_symmetric=True,
        range_candidates=50,
        range_reduction=RangeReduction.mean,
    )
    return method.run(unet, observe(unet, calibration), calibration, context)


def inputs_of(unet, name, entry):
    seen = []
    handle = unet.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        unet(**entry)
    handle.remove()
    return seen[0]


def threshold(x, n_bits, settings):
    """The symmetric threshold of one tensor, searched alone."""
    observer = HistogramObserver(None, CALL_BINS)
    observer.update(x)
    grid = activation_grid(observer.result(), n_bits, settings)
    return grid.scale * (2 ** (n_bits - 1) - 1)


def test_averaged_scales_per_frame_index_and_per_tensor(unet, stepped, adapter):
    """Two samples of two halves each: per frame the mean over calls and halves, elsewhere over calls."""
    entries = stepped.take(range(4)) | {SAMPLE_INDEX: torch.tensor([0, 0, 1, 1])}
    entries["timestep"] = torch.tensor([900, 900, 100, 100])
    calibration = CalibrationSet.from_tensors(entries)
    quantization = released_like(unet, calibration, adapter, ActivationGranularity.batch_frame)
    settings = Naive(activation_range=RangeMethod.lp, activation_symmetric=True, range_candidates=50).settings
    conv, motion = "down_blocks.0.resnets.0.conv2", f"{TEMPORAL}.to_q"
    grid = quantization.layers[conv].grid
    by_half = [inputs_of(unet, conv, calibration.take([i])) for i in range(4)]
    for frame in range(8):
        expected = sum(threshold(x[frame], 8, settings) for x in by_half) / 4
        assert grid.scales[frame] * 127 == pytest.approx(expected, rel=1e-4)
    assert len(set(grid.scales)) == 8 and set(grid.zero_points) == {128.0}
    by_call = [inputs_of(unet, motion, calibration.take(call)) for call in ([0, 1], [2, 3])]
    expected = sum(threshold(x, 8, settings) for x in by_call) / 2
    assert quantization.layers[motion].grid.scale * 127 == pytest.approx(expected, rel=1e-4)


def test_averaged_timestep_grids_are_those_of_their_own_calls(unet, stepped, adapter):
    quantization = released_like(unet, stepped, adapter, ActivationGranularity.timestep)
    loud = CalibrationSet.from_tensors(stepped.take([0, 2]))
    alone = released_like(unet, loud, adapter, ActivationGranularity.tensor)
    joint = quantize(unet, loud, adapter, ActivationGranularity.tensor)
    found = quantization.layers["conv_in"].grid.group(0)
    assert found.scale == pytest.approx(alone.layers["conv_in"].grid.scale, rel=1e-5)
    assert found.scale != joint.layers["conv_in"].grid.scale
