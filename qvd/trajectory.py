"""What denoisers predict at every step of sampling: two of them on the same inputs, or each on its own path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qvd.sampling import sample_batch

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

    from qvd.models.base import ModelAdapter


def step_predictions(
    adapter: ModelAdapter,
    pipeline: DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    num_inference_steps: int,
    shadow: nn.Module | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Outputs of the pipeline's denoiser while it samples evaluation videos, one call after the other.

    Args:
        adapter: of the pipeline.
        pipeline: whose denoiser leads the sampler.
        prompts: one per video.
        indices: numbers of the videos within the evaluation split.
        seed: of the run.
        num_inference_steps: sampler steps.
        shadow: another denoiser, called with the same inputs without touching the path (teacher forcing).

    Returns:
        Float tensors (calls, B, …) on the CPU, of the pipeline's denoiser and of `shadow` (None without one); with
        classifier-free guidance B holds both halves.
    """
    import torch

    led: list[torch.Tensor] = []
    shadowed: list[torch.Tensor] = []

    def record(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        led.append(output[0].float().cpu())
        if shadow is not None:
            shadowed.append(shadow(*args, **kwargs)[0].float().cpu())

    handle = adapter.denoiser(pipeline).register_forward_hook(record, with_kwargs=True)
    try:
        sample_batch(
            adapter, pipeline, prompts, indices, seed=seed, split="evaluation", num_inference_steps=num_inference_steps
        )
    finally:
        handle.remove()
    return torch.stack(led), torch.stack(shadowed) if shadow is not None else None
