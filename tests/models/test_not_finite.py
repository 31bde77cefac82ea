"""NaN and infinity end in one line that says whose, when, where and what to do; looking for them costs no waiting."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.capture import capture_calibration_batch
from qvd.calibration.observe import observe
from qvd.graph.finite import NotFiniteError, wider
from qvd.graph.sites import weighted_layers
from qvd.models.loading import load_pipeline
from qvd.models.sampling import sample_batch
from qvd.options.calibration import CalibrationPlan
from qvd.options.model import DType
from tests.models.damaged import adapter_of

PROMPTS = ["a red circle moving left on a plain background", "a blue cross growing on a striped background"]
FAMILIES = ("tiny_modelscope", "tiny_animatediff", "tiny_latte", "tiny_latte_cc")
STEPS = 4


def loaded(model="tiny_modelscope", dtype=DType.float32):
    adapter = replace(adapter_of(f"model={model}"), dtype=dtype)
    return adapter, load_pipeline(adapter, "cpu")


def sampled(adapter, pipeline, indices=range(2), steps=STEPS):
    prompts = PROMPTS[: len(indices)]
    return sample_batch(adapter, pipeline, prompts, indices, seed=0, split="evaluation", num_inference_steps=steps)


def captured(adapter, pipeline, num_steps=STEPS):
    plan = CalibrationPlan(2, num_steps)
    return capture_calibration_batch(adapter, pipeline, PROMPTS, range(2), seed=0, num_inference_steps=STEPS, plan=plan)


def refusal(action, *arguments, **options):
    with pytest.raises(NotFiniteError) as error:
        action(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def spoil(module, calls, row, num_calls):
    """Make one row of a module's output infinite in the calls from one of them on, again in each repetition."""
    count = 0

    def damage(module, args, output):
        nonlocal count
        number, count = count % num_calls, count + 1
        if number >= calls:
            output = output.clone()
            output[row] = float("inf")
        return output

    module.register_forward_hook(damage)


@pytest.mark.full
def test_an_overflow_in_float16_names_the_layer_and_the_wider_format():
    adapter, pipeline = loaded(dtype=DType.float16)
    pipeline.unet.conv_in.weight.data.mul_(3e4)
    assert refusal(sampled, adapter, pipeline) == (
        "evaluation sample 0, step 1: the denoiser's prediction is not finite in float16, first in the output of "
        "conv_in; model.dtype=bfloat16 or float32 has the range that float16 lacks"
    )


@pytest.mark.parametrize("model", FAMILIES)
def test_every_family_is_watched(model):
    adapter, pipeline = loaded(model)
    layer = adapter.boundary.first[0]
    adapter.denoiser(pipeline).get_submodule(layer).weight.data[0] = float("nan")
    message = refusal(sampled, adapter, pipeline, range(3, 5))
    assert message.startswith("evaluation sample 3, step 1: the denoiser's prediction is not finite in float32")
    assert f"first in the output of {layer}; " in message
    assert f"step 1: the denoiser's prediction is not finite in float32, first in the output of {layer}" in refusal(
        captured, adapter, pipeline
    )


def test_the_sample_and_the_step_are_the_first_ones():
    adapter, pipeline = loaded()
    spoil(pipeline.unet.conv_out, calls=2, row=3, num_calls=STEPS)  # of four rows; the frames are its rows' in time
    message = refusal(sampled, adapter, pipeline, range(5, 7))
    assert message.startswith("evaluation sample 5, step 3: ") and "first in the output of conv_out" in message


def test_embeddings_of_the_text_are_seen_as_such():
    adapter, pipeline = loaded()
    pipeline.text_encoder.final_layer_norm.weight.data[0] = float("inf")
    assert "step 1: the denoiser's prediction is not finite in float32, first in the denoiser's input" in refusal(
        sampled, adapter, pipeline
    )
    message = refusal(captured, adapter, pipeline, num_steps=1)  # ends before the first prediction
    assert message.startswith("calibration sample 0, step 1: the denoiser's input encoder_hidden_states is not finite")


def test_calibration_stops_where_predictions_fail():
    adapter, pipeline = loaded()
    spoil(pipeline.unet.conv_out, calls=1, row=0, num_calls=STEPS)
    assert refusal(captured, adapter, pipeline).startswith("calibration sample 0, step 2: the denoiser's prediction")


def test_what_comes_after_the_denoiser_is_watched_too(monkeypatch):
    adapter, pipeline = loaded()
    plain = pipeline.scheduler.step

    def step(output, timestep, latents, **options):
        result = plain(output, timestep, latents, **options)
        if timestep == pipeline.scheduler.timesteps[-1]:
            result.prev_sample[1] = float("inf")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.scheduler, "step", step)
        assert refusal(sampled, adapter, pipeline).startswith(
            "evaluation sample 0: what the sampler ends with is not finite in float32; "
        )
    pipeline.vae.decoder.conv_out.bias.data[0] = float("nan")
    assert refusal(sampled, adapter, pipeline).startswith(
        "evaluation sample 0: the autoencoder's video is not finite in float32; float32 is the widest there is"
    )


def test_observers_name_the_layer():
    adapter, pipeline = loaded()
    unet = pipeline.unet
    calibration = CalibrationSet.from_tensors(captured(adapter, pipeline, num_steps=1))
    name = [name for name in weighted_layers(unet) if name.endswith("conv2")][2]
    before = unet.get_submodule(name.replace("conv2", "norm2"))
    before.weight.data[0] = float("inf")
    assert refusal(observe, unet, calibration).startswith(f"calibration: what {name} reads is not finite in float32; ")


class Waits(TorchDispatchMode):
    """Counts what waits for a device: a tensor that becomes a Python value."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.name()] += func.name() in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", FAMILIES)
def test_the_watch_waits_for_the_device_a_fixed_number_of_times(model, monkeypatch):
    adapter, pipeline = loaded(model)

    def waits(steps):
        with Waits() as counted:
            sampled(adapter, pipeline, range(1), steps)
        return sum(counted.counts.values())

    watched = [waits(steps) for steps in (2, 5)]
    monkeypatch.setattr("torch.nn.Module.register_forward_hook", lambda *_: NoHook())
    plain = [waits(steps) for steps in (2, 5)]
    assert [more - less for more, less in zip(watched, plain, strict=True)] == [1, 1]


class NoHook:
    def remove(self):
        pass


def test_advice_follows_the_dtype():
    assert "bfloat16" in wider(torch.float16) and "float32" in wider(torch.bfloat16)
    assert "look at the weights" in wider(torch.float32)
