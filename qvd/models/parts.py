"""What every family does alike with the parts of its pipeline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qvd.graph.finite import NotFiniteError, check_rows
from qvd.options.model import DType


def torch_dtype(dtype: DType) -> torch.dtype:
    """torch's name of a config's dtype."""
    return getattr(torch, dtype.value)


@torch.no_grad()
def decode_video(vae: Any, latents: Tensor, chunk: int) -> Tensor:
    """Latents (B, 4, T, h, w), as the sampler leaves them → uint8 (B, T, 3, H, W), `chunk` frames at a time.

    Raises:
        NotFiniteError: NaN or infinity in a video.
    """
    frames = (latents / vae.config.scaling_factor).movedim(1, 2).flatten(0, 1).to(vae.dtype)
    decoded = torch.cat([vae.decode(part).sample.float().cpu() for part in frames.split(chunk)])
    _check_videos(decoded.unflatten(0, (len(latents), -1)), latents)
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.unflatten(0, (len(latents), -1))


def _check_videos(videos: Tensor, latents: Tensor) -> None:
    try:
        check_rows("the autoencoder's video", videos)
    except NotFiniteError:
        check_rows("what the sampler ends with", latents)
        raise
