"""Capturing the calibration set: the denoiser's own inputs while the FP pipeline samples."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from qvd.sampling import sample_batch

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from qvd.models.base import ModelAdapter


def captured_steps(num_inference_steps: int, num_steps: int) -> list[int]:
    """Evenly spaced positions in the sampling loop, first and last included.

    Raises:
        ValueError: when more steps are asked for than the sampler takes.
    """
    if not 1 <= num_steps <= num_inference_steps:
        raise ValueError(
            f"calibration.num_steps={num_steps}: must lie in 1..{num_inference_steps}, the sampler's number of steps"
        )
    return np.unique(np.linspace(0, num_inference_steps - 1, num_steps).round().astype(int)).tolist()


def capture_calibration_batch(
    adapter: ModelAdapter,
    pipeline: DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    num_inference_steps: int,
    num_steps: int,
) -> dict[str, torch.Tensor]:
    """Inputs of the denoiser at `num_steps` evenly spaced steps of one sampled batch.

    Returns:
        Tensors by argument name of the denoiser's forward, stacked on dim 0 over steps and samples; with
        classifier-free guidance both the unconditional and the conditional half are in it.
    """
    wanted = set(captured_steps(num_inference_steps, num_steps))
    denoiser = adapter.denoiser(pipeline)
    signature = inspect.signature(denoiser.forward)
    captured: list[dict[str, torch.Tensor]] = []
    calls = 0

    def record(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        nonlocal calls
        if calls in wanted:
            captured.append(_batched_tensors(signature.bind(*args, **kwargs).arguments))
        calls += 1

    handle = denoiser.register_forward_pre_hook(record, with_kwargs=True)
    try:
        sample_batch(
            adapter, pipeline, prompts, indices, seed=seed, split="calibration", num_inference_steps=num_inference_steps
        )
    finally:
        handle.remove()
    return concatenate(captured)


def concatenate(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join calibration sets along dim 0."""
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _batched_tensors(arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    import torch

    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    batch = max(len(value) for value in tensors.values() if value.ndim)
    return {name: (value if value.ndim else value.expand(batch)).cpu().clone() for name, value in tensors.items()}
