"""Drawing videos, batch by batch, from noise that depends on nothing but (seed, split, sample index)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from qvd.models.base import ModelAdapter

SPLITS = {"calibration": 1, "evaluation": 2}


def noise_generator(seed: int, split: str, index: int) -> torch.Generator:
    """The CPU generator of one sample: the same for every batch size, order, shard and resumed run.

    Args:
        seed: the run's seed.
        split: "calibration" or "evaluation"; the two never share noise.
        index: number of the sample within the split.
    """
    import torch

    state = np.random.SeedSequence([seed, SPLITS[split], index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def sample_batch(
    adapter: ModelAdapter,
    pipeline: DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    split: str,
    num_inference_steps: int,
) -> torch.Tensor:
    """uint8 (B, T, 3, H, W): the videos number `indices`, for their `prompts`."""
    import torch

    generators = [noise_generator(seed, split, index) for index in indices]
    with torch.no_grad():
        return adapter.sample(pipeline, prompts, generators, num_inference_steps)


def batches(total: int, batch_size: int) -> list[range]:
    """Consecutive index ranges that cover range(total)."""
    return [range(start, min(start + batch_size, total)) for start in range(0, total, batch_size)]
