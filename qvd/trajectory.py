"""What denoisers predict at every step of sampling: on their own path, or on the inputs of another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qvd.sampling import sample_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

    from qvd.models.base import ModelAdapter


@dataclass(frozen=True)
class DenoiserCall:
    """One call of a denoiser during sampling.

    Attributes:
        args, kwargs: its inputs; what is the same in every call (text) is held once.
        prediction: float32 (B, …) on the CPU; with classifier-free guidance B holds both halves.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    prediction: torch.Tensor


def sampling_calls(
    adapter: ModelAdapter,
    pipeline: DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    num_inference_steps: int,
) -> list[DenoiserCall]:
    """The calls of the pipeline's denoiser while it samples evaluation videos.

    Args:
        adapter: of the pipeline.
        pipeline: whose denoiser leads the sampler.
        prompts: one per video.
        indices: numbers of the videos within the evaluation split.
        seed: of the run.
        num_inference_steps: sampler steps.
    """
    calls: list[DenoiserCall] = []

    def record(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        calls.append(DenoiserCall(args, kwargs, output[0].float().cpu()))

    handle = adapter.denoiser(pipeline).register_forward_hook(record, with_kwargs=True)
    try:
        sample_batch(
            adapter, pipeline, prompts, indices, seed=seed, split="evaluation", num_inference_steps=num_inference_steps
        )
    finally:
        handle.remove()
    return calls


def predictions(calls: Sequence[DenoiserCall]) -> torch.Tensor:
    """float32 (calls, B, …): what was predicted in those calls."""
    import torch

    return torch.stack([call.prediction for call in calls])


def teacher_forced(denoiser: nn.Module, calls: Sequence[DenoiserCall]) -> torch.Tensor:
    """float32 (calls, B, …): what `denoiser` predicts from the inputs of another's calls."""
    import torch

    with torch.no_grad():
        return torch.stack([denoiser(*call.args, **call.kwargs)[0].float().cpu() for call in calls])
