"""How a video moves from frame to frame, without a reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.fidelity import BATCH


def flicker(videos: Tensor) -> Tensor:
    """Mean absolute difference between neighbouring frames (temporal flickering of VBench, Huang et al. 2024).

    Real motion counts too, so compare only videos of the same prompts and seeds.

    Args:
        videos: uint8 or float (B, T, C, H, W), T ≥ 2.

    Returns:
        float32 (B,), in units of the pixels; 0 for a still video.

    Raises:
        ValueError: fewer than 2 frames.
    """
    _check_frames(videos)
    steps = ((batch[:, 1:].float() - batch[:, :-1].float()).abs().flatten(1).mean(1) for batch in videos.split(BATCH))
    return torch.cat(list(steps))


def neighbour_similarity(frame_embeddings: Tensor) -> Tensor:
    """Mean cosine between embeddings of neighbouring frames; CLIP-Temp when they are CLIP's (Esser et al. 2023).

    Args:
        frame_embeddings: (B, T, E), any scale, T ≥ 2.

    Returns:
        (B,), −1 to 1.

    Raises:
        ValueError: fewer than 2 frames.
    """
    _check_frames(frame_embeddings)
    return F.cosine_similarity(frame_embeddings[:, 1:], frame_embeddings[:, :-1], dim=-1).mean(1)


def _check_frames(x: Tensor) -> None:
    if x.shape[1] < 2:
        raise ValueError(f"neighbouring frames need at least 2 frames, got {x.shape[1]}")
