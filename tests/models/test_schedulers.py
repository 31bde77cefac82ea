"""Schedulers by name, noise that is each sample's own, and what guidance leads away from."""

from dataclasses import replace

import diffusers
import pytest
import torch

from qvd.calibration.capture import capture_calibration_batch
from qvd.models.loading import load_pipeline
from qvd.models.random_init import read_scheduler
from qvd.models.sampling import sample_batch
from qvd.models.schedulers import CLASSES, named_scheduler
from qvd.options.calibration import CalibrationPlan
from qvd.options.hub import MODELS
from qvd.options.model import Scheduler
from tests.models.conftest import FAMILIES

STOCHASTIC = (Scheduler.ddpm, Scheduler.euler_a, Scheduler.dpmpp_sde, Scheduler.lcm)
UNFIT = (Scheduler.pndm, Scheduler.heun)  # of the tiny models' schedule, which ends in noise alone
PROMPTS = ["a red circle moving left on a plain background", "a blue cross growing on a striped background"]
CASES = [(family, scheduler) for family in FAMILIES for scheduler in STOCHASTIC]
CASES += [(family, s) for family in ("modelscope", "latte_class") for s in Scheduler if s not in (*STOCHASTIC, *UNFIT)]


def draw(adapter, pipeline, indices=range(2), seed=0):
    prompts = [PROMPTS[index % 2] for index in indices]
    return sample_batch(adapter, pipeline, prompts, indices, seed=seed, split="evaluation", num_inference_steps=3)


@pytest.mark.parametrize(("family", "scheduler"), CASES)
def test_a_video_is_its_own_whatever_the_batch(random_adapter, family, scheduler):
    """Frames are folded into the batch by some pipelines; each sample still has noise of its own, at every step."""
    adapter = replace(random_adapter(family), scheduler=scheduler)
    pipeline = load_pipeline(adapter, "cpu")
    assert type(pipeline.scheduler).__name__ == CLASSES[scheduler][0]
    both = draw(adapter, pipeline)
    alone = draw(adapter, pipeline, range(1, 2))
    assert (both[1].int() - alone[0].int()).abs().max() <= 1
    assert (both[0].int() - both[1].int()).abs().max() > 1
    assert "step" not in vars(pipeline.scheduler), "the scheduler is left as it was"


def test_frames_of_one_video_have_different_noise(random_adapter):
    adapter = replace(random_adapter("modelscope"), scheduler=Scheduler.ddpm)
    pipeline = load_pipeline(adapter, "cpu")
    seen = []
    step = type(pipeline.scheduler).step

    def record(self, model_output, timestep, sample, generator=None, return_dict=True):
        silent = step(self, model_output, timestep, sample, [torch.Generator() for _ in sample], return_dict)
        noisy = step(self, model_output, timestep, sample, generator, return_dict)
        seen.append(noisy.prev_sample - silent.prev_sample)
        return noisy

    pipeline.scheduler.__class__ = type("Recorded", (type(pipeline.scheduler),), {"step": record})
    draw(adapter, pipeline)
    noise = seen[0].flatten(1)
    assert torch.cdist(noise, noise).fill_diagonal_(torch.inf).min() > 0.1


def test_the_named_scheduler_is_diffusers_own_from_the_pipelines_config(random_adapter):
    adapter = replace(random_adapter("modelscope"), scheduler=Scheduler.euler)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(adapter.folder())
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": adapter.resolution, "width": adapter.resolution, "num_frames": adapter.num_frames}
    arguments = {"num_inference_steps": 3, "guidance_scale": adapter.guidance_scale, "output_type": "pt", **size}
    expected = pipeline(PROMPTS[0], generator=torch.Generator().manual_seed(5), **arguments).frames
    ours = adapter.sample(load_pipeline(adapter, "cpu"), PROMPTS[:1], [torch.Generator().manual_seed(5)], 3)
    assert (ours.float() - 255 * expected).abs().max() <= 1


@pytest.mark.parametrize("scheduler", UNFIT)
def test_what_the_network_was_trained_with_is_not_dropped(random_adapter, scheduler):
    adapter = replace(random_adapter("modelscope"), scheduler=scheduler)
    with pytest.raises(ValueError, match=rf"model.scheduler={scheduler.value}: .*rescale_betas_zero_snr=True.*dpmpp,"):
        load_pipeline(adapter, "cpu")


@pytest.mark.parametrize("family", ["modelscope", "animatediff", "latte", "latte_ucf101"])
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_released_configuration_has_every_scheduler(family, scheduler):
    own = read_scheduler(MODELS / "architectures" / family).config
    made = named_scheduler(scheduler, own).config
    for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type"):
        assert made[key] == own[key]
    assert not made.get("clip_sample")
    if scheduler in (Scheduler.dpmpp, Scheduler.dpmpp_sde):
        assert made["variance_type"] is None, "it would take a latent's fourth channel for a variance"


def test_latents_are_not_clipped_where_a_config_says_nothing_of_it():
    own = diffusers.EulerDiscreteScheduler().config
    assert named_scheduler(Scheduler.ddim, own).config.clip_sample is False


def test_calibration_meets_the_schedulers_own_timesteps(random_adapter):
    adapter = replace(random_adapter("modelscope"), scheduler=Scheduler.euler)
    pipeline = load_pipeline(adapter, "cpu")
    captured = capture_calibration_batch(
        adapter, pipeline, PROMPTS, range(2), seed=0, num_inference_steps=4, plan=CalibrationPlan(2, 2)
    )
    assert sorted(set(captured["timestep"].tolist())) == sorted(adapter.timesteps(pipeline, 4)[[0, 3]].tolist())


@pytest.mark.parametrize("family", ["modelscope", "animatediff", "latte"])
def test_a_negative_prompt_reaches_every_sample(random_adapter, family):
    adapter = random_adapter(family)
    pipeline = load_pipeline(adapter, "cpu")
    plain, led = draw(adapter, pipeline), draw(replace(adapter, negative_prompt=PROMPTS[1]), pipeline)
    assert all(not torch.equal(one, other) for one, other in zip(plain, led, strict=True))
    towards = replace(adapter, negative_prompt=PROMPTS[0], guidance_scale=3.0)
    more = replace(adapter, negative_prompt=PROMPTS[0], guidance_scale=9.0)
    same = [draw(other, pipeline, range(1)) for other in (towards, more)]
    assert (same[0].int() - same[1].int()).abs().max() <= 1, "away from the prompt itself guidance leads nowhere"
