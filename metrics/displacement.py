"""How far each video of an arm has moved from the FP model's of the same seed, in the space of an extractor."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.frechet import Features, as_matrix

TIPPED = 0.5
"""A video has tipped, into another scene, if it moved at least half as far as two of FP's videos lie apart (ours)."""

_SPREAD_VIDEOS = 2048  # whose distances to each other are all taken


class UndefinedError(ValueError):
    """Videos that a metric says nothing of."""


def displacement(features: Features, fp_features: Features) -> Tensor:
    """Distance of each video's features from those of its twin, in units of the FP videos' own spread.

    Ours. FVD-FP squares and sums what its few largest distances dominate; of these the median and the share above
    `TIPPED` tell small errors and lost videos apart, and neither depends on N as FVD does.

    Args:
        features: (N, D), of an arm's videos.
        fp_features: (N, D), of the FP model's; row i is of the same seed and prompt.

    Returns:
        float64 (N,): 0 for the same video, 1 for one as far off as two of FP's videos are from each other (the median
        over pairs of the first 2,048).

    Raises:
        ValueError: sides of different shape.
        UndefinedError: FP's videos do not differ from each other.
    """
    x, y = as_matrix(features, minimum=2), as_matrix(fp_features, minimum=2)
    if x.shape != y.shape:
        raise ValueError(f"paired features must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    spread = torch.pdist(y[:_SPREAD_VIDEOS]).median()
    if spread == 0:
        raise UndefinedError("the FP model's videos do not differ from each other: there is no unit to measure in")
    return (x - y).norm(dim=1) / spread
