"""Drawing videos, batch by batch, from noise that depends on nothing but (seed, split, sample index)."""

from __future__ import annotations

import diffusers
import torch

from qvd.models.base import ModelAdapter
from qvd.models.noise import noise_generator


def sample_batch(
    adapter: ModelAdapter,
    pipeline: diffusers.DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    split: str,
    num_inference_steps: int,
) -> torch.Tensor:
    """uint8 (B, T, 3, H, W): the videos number `indices`, for their `prompts`."""
    generators = [noise_generator(seed, split, index) for index in indices]
    with torch.no_grad():
        return adapter.sample(pipeline, prompts, generators, num_inference_steps)


def batches(total: int, batch_size: int) -> list[range]:
    """Consecutive index ranges that cover range(total)."""
    return [range(start, min(start + batch_size, total)) for start in range(0, total, batch_size)]
