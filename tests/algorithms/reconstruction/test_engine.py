"""Whole networks: what is cached and replayed, what is learned, and what a kill leaves behind."""

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qvd.algorithms.reconstruction import engine
from qvd.algorithms.reconstruction.engine import Task, reconstruct_rounding, reconstruct_steps
from qvd.algorithms.reconstruction.replay import Replay, execution_order
from qvd.algorithms.reconstruction.unit_store import UnitStore
from qvd.backends.convert import convert
from qvd.graph.sites import weighted_layers
from qvd.numerics.grids import AffineGrid
from qvd.options.reconstruction import AdaRoundSettings, LsqSettings
from qvd.options.units import Reconstruction
from tests.algorithms.reconstruction.nets import ORDER, make_calibration, make_net, nearest_weights, units

ROOT = Path(__file__).parents[3]
SETTINGS = AdaRoundSettings(iterations=40, learning_rate=3e-2, batch_size=4)
SHORT = AdaRoundSettings(iterations=10, learning_rate=3e-2, batch_size=4)


@pytest.fixture(scope="module")
def net():
    return make_net()


@pytest.fixture(scope="module")
def calibration():
    return make_calibration()


def task(net, calibration, granularity=Reconstruction.block, checkpoint=None, progress=None):
    chosen = units(net, granularity)
    return Task(net, calibration, chosen, checkpoint, progress or (lambda items, description: items))


@torch.no_grad()
def held_out_error(net, quantization):
    entry = make_calibration(seed=1).take(range(12))
    reference = net(**entry)
    return ((convert(net, quantization)(**entry) - reference).square().sum() / reference.square().sum()).item()


@pytest.mark.parametrize("granularity", [Reconstruction.layer, Reconstruction.block])
def test_reconstruction_beats_nearest_on_held_out_data(net, calibration, granularity):
    nearest = nearest_weights(net, 3)
    learned = reconstruct_rounding(task(net, calibration, granularity), nearest, SETTINGS)
    assert held_out_error(net, learned) < 0.75 * held_out_error(net, nearest)
    notes = learned.layers["down.resnet.conv1"].notes
    expected = "down.resnet" if granularity is Reconstruction.block else "down.resnet.conv1"
    assert notes["rounding_unit"] == expected
    assert notes["rounding_error_after"] < notes["rounding_error_before"]
    assert notes["rounding_kept"] == "learned"
    assert learned.summary["rounding_error_after"] < learned.summary["rounding_error_before"]


def test_units_come_in_the_order_of_execution(net, calibration):
    seen = []

    def progress(items, description):
        seen.extend(items)
        return items

    reconstruct_rounding(
        task(net, calibration, progress=progress), nearest_weights(net, 8), AdaRoundSettings(iterations=1)
    )
    assert seen == ORDER


def test_no_prefix_is_computed_twice(net, calibration, tmp_path):
    """Walking through all units, each is run once per batch: finished ones answer from disk."""
    replay = Replay(net, calibration, range(12), [*ORDER, "down", "up"], ORDER, tmp_path, batch_size=6)
    computed = Counter()
    inside = [name for name in weighted_layers(net) if "." in name]  # units that are layers call their hooks always
    handles = [
        net.get_submodule(name).register_forward_hook(lambda m, a, o, name=name: computed.update([name]))
        for name in inside
    ]
    for unit in ORDER:
        replay.answer(unit, replay.outputs(unit))
        replay.forget()
    for handle in handles:
        handle.remove()
    assert computed == dict.fromkeys(inside, 2)
    # A finished stage answers as a whole, and its units' activations are gone.
    assert set(replay.cached) == {"embed", "conv_in", "down", "up", "conv_out"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(replay.cached)


def test_replayed_activations_are_the_real_ones(net, calibration, tmp_path):
    called = execution_order(net, calibration)
    replay = Replay(net, calibration, [3, 5, 11], called, ORDER, tmp_path, batch_size=2)
    for unit in ORDER[:-1]:
        replay.answer(unit, replay.outputs(unit))
    (args, kwargs) = replay.inputs("conv_out").take([2, 0])
    seen = []
    handle = net.conv_out.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    with torch.no_grad():
        net(**calibration.take([11, 3]))
    handle.remove()
    assert args[0].dtype == torch.float32
    torch.testing.assert_close(args[0], seen[0], rtol=2e-2, atol=2e-2)  # bfloat16 on the way


def test_model_is_left_alone(net, calibration):
    entry = calibration.take([0])
    before = net(**entry)
    reconstruct_rounding(task(net, calibration), nearest_weights(net, 4), AdaRoundSettings(iterations=1))
    assert torch.equal(net(**entry), before)
    assert not any(p.requires_grad for p in net.parameters())


def test_steps_are_learned_with_weights_as_they_are(net, calibration):
    weights = nearest_weights(net, 8)
    # Far too wide a step for these inputs: there is something to learn.
    layers = {name: replace(layer, grid=AffineGrid(4, 1.2, 8.0)) for name, layer in weights.layers.items()}
    start = replace(weights, layers=layers)
    learned = reconstruct_steps(task(net, calibration), start, LsqSettings(iterations=60, learning_rate=2e-2))
    assert held_out_error(net, learned) < 0.8 * held_out_error(net, start)
    for name, layer in learned.layers.items():
        assert torch.equal(layer.weight.codes, weights.layers[name].weight.codes)
        assert layer.grid.zero_point == 8.0 and layer.grid.scale > 0
    assert any(layer.grid.scale != 1.2 for layer in learned.layers.values())


KILLED = """
import os, signal, sys
from pathlib import Path
from qvd.algorithms.reconstruction import block
from tests.algorithms.reconstruction.test_engine import *

losses, original = 0, block.channel_loss

def killing(*args):
    global losses
    losses += 1
    if losses == 15:  # in the middle of the second block
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)

block.channel_loss = killing
net = make_net()
store = UnitStore(Path(sys.argv[1]))
reconstruct_rounding(task(net, make_calibration(), checkpoint=store), nearest_weights(net, 3), SHORT)
"""


@pytest.mark.full
def test_killed_work_goes_on_and_ends_bit_equal(net, calibration, tmp_path, monkeypatch):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    store = UnitStore(tmp_path)
    finished = [unit for unit in ORDER if store.read(f"rounding/{unit}") is not None]
    assert finished == ORDER[:3], "killed while learning down.transformer"
    learned = []
    original = engine.learn_rounding

    def noting(unit, *args):
        learned.append(next(iter(unit.layers)))
        return original(unit, *args)

    monkeypatch.setattr(engine, "learn_rounding", noting)
    resumed = reconstruct_rounding(task(net, calibration, checkpoint=store), nearest_weights(net, 3), SHORT)
    assert [name.split(".")[:2] for name in learned] == [
        ["down", "transformer"],
        ["up", "resnet"],
        ["up", "transformer"],
    ]
    monkeypatch.undo()
    whole = reconstruct_rounding(task(net, calibration), nearest_weights(net, 3), SHORT)
    for name, layer in whole.layers.items():
        assert torch.equal(resumed.layers[name].weight.codes, layer.weight.codes)
        assert resumed.layers[name].notes == layer.notes


def test_a_unit_that_is_called_twice_is_refused(calibration):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 1)

        def forward(self, sample, timestep):
            return self.conv(self.conv(sample))

    twice = Twice().requires_grad_(False)
    with pytest.raises(ValueError, match="conv"):
        reconstruct_rounding(
            Task(twice, calibration, ["conv"], None, lambda items, description: items),
            nearest_weights(twice, 4),
            SETTINGS,
        )
