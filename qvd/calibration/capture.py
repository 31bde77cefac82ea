"""Capturing a calibration set: the denoiser's own inputs while the FP pipeline samples."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from qvd.calibration.calibration_set import SAMPLE_INDEX, concatenate
from qvd.calibration.plan import steps_of_samples
from qvd.graph.finite import NotFiniteError, check_rows
from qvd.graph.trajectory import Complete, by_entry, calls_to, entries_of
from qvd.models.base import ModelAdapter
from qvd.models.sampling import sample_batch
from qvd.options.calibration import CalibrationPlan


def capture_calibration_batch(
    adapter: ModelAdapter,
    pipeline: diffusers.DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    num_inference_steps: int,
    plan: CalibrationPlan,
) -> dict[str, torch.Tensor]:
    """Inputs of the FP denoiser along one sampled batch, at the steps that `plan` wants of each sample.

    Returns:
        Tensors by argument name of the denoiser's forward, stacked on dim 0 over steps and samples; with
        classifier-free guidance both the unconditional and the conditional half are in it. Each entry carries the
        timestep that the denoiser was really called with, and under `SAMPLE_INDEX` the sample that it belongs to.
        Floating tensors are bfloat16, except those of one number per entry (timesteps), which are exact.

    Raises:
        NotFiniteError: NaN or infinity in an input or in a prediction on the way to it.
    """
    timesteps = adapter.timesteps(pipeline, num_inference_steps)
    wanted = steps_of_samples(plan, timesteps.tolist(), train_timesteps(pipeline), seed, indices)
    last = max(max(steps) for steps in wanted)
    captured: list[dict[str, torch.Tensor]] = []
    step = 0

    def record(arguments: dict[str, Any]) -> None:
        nonlocal step
        samples = [number for number, steps in enumerate(wanted) for s in steps if s == step]
        if samples:
            call = entries_of(arguments, samples, len(indices))
            _check(call, samples, step)
            halves = _num_entries(call) // len(samples)
            captured.append(call | {SAMPLE_INDEX: torch.tensor([indices[number] for number in samples] * halves)})
        step += 1
        if step == last + 1:  # and in no later call, should the same be sampled once more
            raise Complete

    with calls_to(adapter.denoiser(pipeline), record):
        sample_batch(
            adapter, pipeline, prompts, indices, seed=seed, split="calibration", num_inference_steps=num_inference_steps
        )
    return concatenate(captured)


def _check(call: dict[str, torch.Tensor], samples: list[int], step: int) -> None:
    """Refuse captured inputs of the batch's `samples` that are not finite."""
    entries = _num_entries(call)
    for name, tensor in call.items():
        if not tensor.is_floating_point():
            continue
        try:
            check_rows(f"the denoiser's input {name}", by_entry(tensor, entries), step)
        except NotFiniteError as error:
            raise NotFiniteError(str(error), samples[(error.row or 0) % len(samples)], step) from None


def _num_entries(call: dict[str, torch.Tensor]) -> int:
    return min(len(tensor) for tensor in call.values() if tensor.ndim > 1)


def train_timesteps(pipeline: diffusers.DiffusionPipeline) -> int:
    """T, the length of the diffusion that the model was trained on."""
    return int(pipeline.scheduler.config.num_train_timesteps)
