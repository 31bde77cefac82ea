"""Schedulers by name, made of what a pipeline's own one was configured with, and noise that is each sample's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers

from qvd.options.model import Scheduler

# Class of diffusers, and what makes it the named one.
CLASSES: dict[Scheduler, tuple[str, dict[str, Any]]] = {
    Scheduler.ddim: ("DDIMScheduler", {}),
    Scheduler.ddpm: ("DDPMScheduler", {}),
    Scheduler.pndm: ("PNDMScheduler", {"skip_prk_steps": True}),
    Scheduler.heun: ("HeunDiscreteScheduler", {}),
    Scheduler.euler: ("EulerDiscreteScheduler", {}),
    Scheduler.euler_a: ("EulerAncestralDiscreteScheduler", {}),
    Scheduler.dpmpp: ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    Scheduler.dpmpp_sde: ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    Scheduler.unipc: ("UniPCMultistepScheduler", {}),
    Scheduler.lcm: ("LCMScheduler", {}),
}
# What the network was trained with, and which of its timesteps a sampler visits.
TRAINED_WITH = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
    "timestep_spacing",
)


def named_scheduler(name: Scheduler, config: Mapping[str, Any]) -> Any:
    """diffusers' scheduler of this name, `from_config` of the pipeline's own.

    Raises:
        ValueError: the named one lacks something that the network was trained with, which `from_config` would ignore.
    """
    class_name, own = CLASSES[name]
    known = _parameters(class_name)
    lacking = [f"{key}={config[key]}" for key in TRAINED_WITH if config.get(key) and key not in known]
    if lacking:
        able = [other.value for other, (cls, _) in CLASSES.items() if _takes(_parameters(cls), config)]
        raise ValueError(
            f"model.scheduler={name.value}: {class_name} knows nothing of {', '.join(lacking)}, which this model was "
            f"trained with; allowed are {', '.join(able)}"
        )
    # Of latents nothing is clipped unless the pipeline says so, and only DDPM has a use for a learned variance.
    fitting = {"clip_sample": config.get("clip_sample", False)}
    if name is not Scheduler.ddpm:
        fitting["variance_type"] = None
    fitting = {key: value for key, value in fitting.items() if key in known}
    return getattr(diffusers, class_name).from_config(dict(config), **fitting, **own)


def _takes(known: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    return all(key in known for key in TRAINED_WITH if config.get(key))


def _parameters(class_name: str) -> Mapping[str, Any]:
    return inspect.signature(getattr(diffusers, class_name).__init__).parameters


def takes_generator(scheduler: Any) -> bool:
    """Whether a step may draw noise."""
    return "generator" in inspect.signature(scheduler.step).parameters


@contextmanager
def noise_of_each_sample(scheduler: Any) -> Iterator[None]:
    """While open, a step draws each sample's noise from that sample's own generator, row after row of its latents.

    Where a pipeline folds frames into the batch, diffusers would look for one generator per frame.
    """
    if not takes_generator(scheduler):
        yield
        return
    step = scheduler.step

    @functools.wraps(step)
    def with_generator_per_row(model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        generators = kwargs.get("generator")
        if isinstance(generators, list):
            rows = len(sample) // len(generators)
            kwargs["generator"] = [generator for generator in generators for _ in range(rows)]
        return step(model_output, timestep, sample, *args, **kwargs)

    scheduler.step = with_generator_per_row
    try:
        yield
    finally:
        del scheduler.step
