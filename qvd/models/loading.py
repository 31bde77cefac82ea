"""From a model's options to the pipeline that a run samples with."""

from __future__ import annotations

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from qvd.graph.trajectory import first_call
from qvd.models.base import ModelAdapter
from qvd.models.difficulty import raise_disparity_, skew_temporal_features_
from qvd.models.memory_estimate import check_memory
from qvd.models.noise import noise_generator
from qvd.models.placement import place
from qvd.models.schedulers import named_scheduler
from qvd.options.model import Init


def load(adapter: ModelAdapter, device: str, prompt: str) -> diffusers.DiffusionPipeline:
    """The pipeline that a run samples with: `load_pipeline`'s, the dial of difficulty turned.

    Args:
        adapter: the model.
        device: where it runs.
        prompt: any one of the run's; the dial looks at channel ranges of the first step of sampling it.
    """
    pipeline = load_pipeline(adapter, device)
    if adapter.dialled:
        _turn_dial_(adapter, pipeline, prompt)
    return pipeline


def load_pipeline(adapter: ModelAdapter, device: str) -> diffusers.DiffusionPipeline:
    """The frozen pipeline in eval mode, with the scheduler that is asked for, in the model's dtype, on `device` or
    offloaded.

    Raises:
        FileNotFoundError: weights that are nowhere.
        ValueError: a folder that is damaged or another family's, before its weights are read; weights that do not fit
            their network; a scheduler that is not for this model; a stage that would not fit in memory, with advice.
    """
    silence_loading()
    check_folders(adapter)
    if not adapter.embedded:
        check_memory(adapter, device)
    is_random = adapter.init is Init.random
    pipeline = adapter.random_pipeline() if is_random else adapter.pretrained_pipeline()
    if adapter.scheduler is not None:
        pipeline.register_modules(scheduler=named_scheduler(adapter.scheduler, pipeline.scheduler.config))
    return place(pipeline, adapter, device)


def check_folders(adapter: ModelAdapter) -> None:
    """Refuse what the weights' folders show before anything is read or computed.

    Raises:
        FileNotFoundError: weights that are nowhere.
        ValueError: a folder that is damaged, lacks a part, or is another family's.
    """
    if adapter.init is Init.pretrained:
        adapter.parts()


def _turn_dial_(adapter: ModelAdapter, pipeline: diffusers.DiffusionPipeline, prompt: str) -> None:
    denoiser = adapter.denoiser(pipeline)
    if adapter.disparity > 1 or adapter.asymmetry > 0:
        raise_disparity_(denoiser, _first_call(adapter, pipeline, prompt), adapter.disparity, adapter.asymmetry)
    if adapter.temporal_skew > 0:
        timesteps = adapter.timesteps(pipeline, adapter.num_inference_steps)
        skew_temporal_features_(denoiser, adapter.temporal_features(denoiser, timesteps), adapter.temporal_skew)


def _first_call(adapter: ModelAdapter, pipeline: diffusers.DiffusionPipeline, prompt: str) -> dict[str, Tensor]:
    """The denoiser's arguments at the first step of sampling `prompt`."""
    denoiser, generators = adapter.denoiser(pipeline), [noise_generator(0, "calibration", 0)]
    with torch.no_grad():
        call = first_call(denoiser, lambda: adapter.sample(pipeline, [prompt], generators, adapter.num_inference_steps))
    device = next(denoiser.parameters()).device
    is_data = {name: tensor.is_floating_point() and tensor.ndim > 1 for name, tensor in call.items()}
    return {name: (t.float() if is_data[name] else t).to(device) for name, t in call.items()}


def silence_loading() -> None:
    """Keep diffusers' and transformers' own bars and notices out of the terminal; ours show the progress."""
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
