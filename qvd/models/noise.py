"""Noise that depends on nothing but (seed, split, sample index)."""

from __future__ import annotations

import numpy as np
import torch

SPLITS = {"calibration": 1, "evaluation": 2}


def noise_generator(seed: int, split: str, index: int) -> torch.Generator:
    """The CPU generator of one sample: the same for every batch size, order, shard and resumed run.

    Args:
        seed: the run's seed.
        split: "calibration" or "evaluation"; the two never share noise.
        index: number of the sample within the split.
    """
    state = np.random.SeedSequence([seed, SPLITS[split], index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
