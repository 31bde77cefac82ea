"""The calibration set: which timesteps are drawn, that each entry bears its own, and that reading is lazy."""

from itertools import chain

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from experiments.attributes import compose_run_config
from qvd.calibration.calibration_set import SAMPLE_INDEX, CalibrationSet
from qvd.calibration.capture import capture_calibration_batch
from qvd.calibration.plan import captured_steps, drawn_timesteps, steps_of_samples
from qvd.models.loading import load_pipeline
from qvd.options.calibration import CalibrationPlan, TimestepChoice

PROMPTS = ["a red circle moving left on a plain background", "a blue cross growing on a striped background"]


def test_captured_steps_are_even_and_include_both_ends():
    assert captured_steps(50, 6) == [0, 10, 20, 29, 39, 49]
    assert captured_steps(10, 10) == captured_steps(10, None) == list(range(10))


@pytest.mark.parametrize("num_steps", [0, 11])
def test_more_steps_than_the_sampler_takes(num_steps):
    with pytest.raises(ValueError, match=f"calibration.num_steps={num_steps}: must lie in 1..10"):
        captured_steps(10, num_steps)


@pytest.mark.parametrize("mean", [0.0, 0.6])
def test_the_papers_mean_is_bounded(mean):
    with pytest.raises(ValueError, match=f"calibration.ndtc_mean={mean}: must be in"):
        CalibrationPlan(1, 1, TimestepChoice.ndtc_paper, mean)


def test_every_step_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"num_steps=null: .*timesteps=uniform alone, not by ndtc_paper"):
        CalibrationPlan(1, None, TimestepChoice.ndtc_paper)


def normal_cdf(t, mean, std):
    return torch.distributions.Normal(mean, std).cdf(torch.as_tensor(t, dtype=torch.float64)).numpy()


@pytest.mark.parametrize(
    ("choice", "mean", "std"),
    [(TimestepChoice.ndtc_paper, 500, 500**0.5), (TimestepChoice.ndtc_released, 400, 400)],
)
def test_ndtc_draws_have_the_stated_histogram(choice, mean, std):
    """Bin by bin the floored and clamped normal distribution: the tails pile up on 0 and T - 1."""
    plan = CalibrationPlan(1, 8, choice)
    drawn = np.concatenate([drawn_timesteps(plan, 1000, 0, index) for index in range(2500)])
    assert drawn.min() >= 0 and drawn.max() <= 999
    edges = np.array([0, 1, *range(100, 401, 100), *range(420, 600, 20), *range(600, 901, 100), 999, 1000])
    expected = np.diff(np.r_[0, normal_cdf(edges[1:-1], mean, std), 1]) * len(drawn)
    seen = np.histogram(drawn, edges)[0]
    assert (np.abs(seen - expected) <= 4.5 * np.sqrt(expected) + 1).all()
    if choice is TimestepChoice.ndtc_released:
        assert (drawn == 0).mean() == pytest.approx(normal_cdf(1, mean, std), abs=0.01)


def test_draws_ignore_the_batch_and_differ_between_samples():
    plan = CalibrationPlan(1, 4, TimestepChoice.ndtc_released)
    loop = np.arange(981, 0, -20)
    both = steps_of_samples(plan, loop, 1000, 0, range(2))
    assert both[1:] == steps_of_samples(plan, loop, 1000, 0, range(1, 2))
    assert both[0] != both[1]


def test_a_draw_is_captured_at_the_nearest_step_of_a_descending_loop():
    plan, loop = CalibrationPlan(1, 200, TimestepChoice.ndtc_released), np.array([901, 601, 301, 1])
    drawn = drawn_timesteps(plan, 1000, 3, 5)
    chosen = loop[steps_of_samples(plan, loop, 1000, 3, [5])[0]]
    assert (np.abs(chosen - drawn) == np.abs(loop - drawn[:, None]).min(1)).all()
    # In a full descending loop, position k holds timestep T - 1 - k.
    full = np.arange(999, -1, -1)
    assert [999 - k for k in steps_of_samples(plan, full, 1000, 3, [5])[0]] == drawn.tolist()


@pytest.fixture(scope="module")
def captured():
    """NDTC on the shipped model, and what the sampler really fed the denoiser."""
    adapter = compose_run_config(["model=tiny_modelscope"]).model
    pipeline = load_pipeline(adapter, "cpu")
    plan = CalibrationPlan(2, 3, TimestepChoice.ndtc_released)
    calls = []
    handle = pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((int(args[1]), args[0].clone())), with_kwargs=True
    )
    tensors = capture_calibration_batch(adapter, pipeline, PROMPTS, range(2), seed=0, num_inference_steps=6, plan=plan)
    handle.remove()
    timesteps = adapter.timesteps(pipeline, 6).tolist()
    return tensors, calls, steps_of_samples(plan, timesteps, 1000, 0, range(2)), timesteps


def test_entries_bear_the_timestep_of_their_call_and_both_halves(captured):
    tensors, calls, steps, timesteps = captured
    assert [t for t, _ in calls] == timesteps[: max(map(max, steps)) + 1], "sampling stops after the last wanted step"
    wanted = sorted(timesteps[s] for of_sample in steps for s in of_sample for _ in range(2))
    assert sorted(tensors["timestep"].tolist()) == wanted
    assert tensors["sample"].dtype == torch.bfloat16 and tensors["timestep"].dtype == torch.int64
    by_timestep = dict(calls)
    for timestep, sample in zip(tensors["timestep"].tolist(), tensors["sample"], strict=True):
        assert any(torch.equal(sample, row.bfloat16()) for row in by_timestep[timestep])
    text = tensors["encoder_hidden_states"]
    unconditional = [torch.equal(row, text[0]) for row in text]
    assert sum(unconditional) == len(text) / 2


def test_entries_know_their_sample_and_their_call(captured):
    """Of each sample as many calls as distinct steps, of two halves that start from the same noise."""
    tensors, _, steps, timesteps = captured
    calibration = CalibrationSet.from_tensors(tensors)
    assert SAMPLE_INDEX not in calibration.take([0])
    assert sorted(chain(*calibration.by_sample())) == list(range(len(calibration)))
    for sample, entries in enumerate(calibration.by_sample()):
        wanted = sorted(timesteps[s] for s in steps[sample] for _ in range(2))
        assert sorted(tensors["timestep"][entries].tolist()) == wanted
        calls = calibration.by_call(entries)
        assert len(calls) == len(set(steps[sample])) and sorted(chain(*calls)) == entries
        for call in calls:
            assert len(tensors["timestep"][call].unique()) == 1
            assert (tensors["sample"][call] == tensors["sample"][call[0]]).all()


def test_without_samples_each_entry_is_a_call_of_its_own():
    calibration = CalibrationSet.from_tensors({"x": torch.randn(3, 2)})
    assert calibration.by_sample() == calibration.by_call() == [[0], [1], [2]]


def parts(tmp_path, rows_per_entry=1):
    generator = torch.Generator().manual_seed(0)
    whole = {
        "sample": torch.randn(11, 3, 2, generator=generator).bfloat16(),
        "timestep": torch.arange(11) * 90,
        "text": torch.randn(11 * rows_per_entry, 4, generator=generator).bfloat16(),
    }
    paths = []
    for start, stop in ((0, 4), (4, 5), (5, 11)):
        cut = {k: v.unflatten(0, (11, -1))[start:stop].flatten(0, 1).clone() for k, v in whole.items()}
        paths.append(tmp_path / f"{start}.safetensors")
        save_file(cut, paths[-1])
    return whole, paths


@pytest.mark.parametrize("rows_per_entry", [1, 3])
def test_files_read_as_the_whole(tmp_path, rows_per_entry):
    whole, paths = parts(tmp_path, rows_per_entry)
    in_memory, on_disk = CalibrationSet.from_tensors(whole), CalibrationSet.from_files(paths)
    assert len(in_memory) == len(on_disk) == 11
    batches = on_disk.batches(4)
    assert len(batches) == 3
    for name, tensor in whole.items():
        joined = torch.cat([batch[name] for batch in batches])
        assert torch.equal(joined, tensor.float() if name != "timestep" else tensor)
    for indices in ([7, 0, 4, 4, 10], range(3, 6)):
        expected, got = in_memory.take(indices), on_disk.take(indices)
        assert all(torch.equal(expected[name], got[name]) for name in whole)
        assert got["timestep"].tolist() == [90 * i for i in indices]
        first = got["text"][:rows_per_entry]
        assert torch.equal(first, whole["text"].float()[indices[0] * rows_per_entry :][:rows_per_entry])


def test_batches_are_read_when_they_are_reached(tmp_path):
    _, paths = parts(tmp_path)
    batches = CalibrationSet.from_files(paths).batches(4)
    assert batches[0]["sample"].dtype == torch.float32
    paths[-1].unlink()
    batches[0]
    with pytest.raises(FileNotFoundError):
        batches[2]
