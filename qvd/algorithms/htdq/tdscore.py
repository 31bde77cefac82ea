"""TDScore: how much of the difference between timesteps survives quantization.

The name is QVD's (arXiv 2407.11585); no formula is public, these three are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class TDScores:
    """`td1` distance preservation, `td2` retrieval, `td3` adjacent distinction; 1 is perfect."""

    td1: float
    td2: float
    td3: float


def td1(distances: Tensor, quantized: Tensor) -> float:
    """TD1 = 1 - Σ|d̂_ts - d_ts| / Σ d_ts over t < s; (n, channels) quantized features, `distances` from `F.pdist`."""
    return 1.0 - ((F.pdist(quantized) - distances).abs().sum() / distances.sum().clamp(min=1e-300)).item()


def td_scores(features: Tensor, quantized: Tensor) -> TDScores:
    """All three scores of features (n ≥ 2 timesteps in sampling order, channels) and their quantized values.

    TD2 is the share of t for which the nearest e_s of ê_t is e_t; TD3 the mean over adjacent t of
    min(1, ‖ê_t - ê_(t+1)‖ / ‖e_t - e_(t+1)‖). Timesteps with equal features count as preserved.
    """
    features, quantized = features.double(), quantized.double()
    cross = torch.cdist(quantized, features, compute_mode="donot_use_mm_for_euclid_dist")
    retrieved = cross.diagonal() <= cross.amin(1)
    steps, quantized_steps = (x.diff(dim=0).norm(dim=1) for x in (features, quantized))
    ratio = torch.where(steps > 0, quantized_steps / steps, torch.ones_like(steps)).clamp(max=1)
    return TDScores(td1(F.pdist(features), quantized), retrieved.double().mean().item(), ratio.mean().item())
