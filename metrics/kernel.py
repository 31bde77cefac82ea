"""Kernel video distance: unbiased MMD² of features under a cubic kernel (Bińkowski et al. 2018), by torchmetrics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchmetrics.image.kid import poly_mmd

from metrics.frechet import Features, same_samples


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation of the MMD² over random subsets."""

    mean: float
    std: float


def kernel_distance(
    features: Features, reference: Features, subset_size: int = 1000, subsets: int = 100, seed: int = 0
) -> KernelDistance:
    """KVD, the video form of KID; unlike FVD its estimate is unbiased at any N.

    The kernel is (x·y / D + 1)³. Sets smaller than `subset_size` are used whole, once. The same videos on both sides
    are at 0: the estimator, which takes the sides for independent, would be far below.

    Args:
        features: (N, D).
        reference: (M, D).
        subset_size: videos per subset.
        subsets: number of subsets.
        seed: of the choice of subsets.

    Raises:
        ValueError: fewer than 2 videos on a side.
    """
    x, y = (torch.as_tensor(f).double() for f in (features, reference))
    size = min(subset_size, len(x), len(y))
    if size < 2:
        raise ValueError(f"{size} videos are too few for a kernel distance: need at least 2")
    if same_samples(x, y):
        return KernelDistance(0.0, 0.0)
    if size == len(x) == len(y):
        return KernelDistance(float(poly_mmd(y, x)), 0.0)
    generator = torch.Generator().manual_seed(seed)
    pairs = ((_choose(y, size, generator), _choose(x, size, generator)) for _ in range(subsets))
    values = torch.stack([poly_mmd(a, b) for a, b in pairs])
    return KernelDistance(float(values.mean()), float(values.std(correction=0)))


def _choose(x: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    return x[torch.randperm(len(x), generator=generator)[:size]]
