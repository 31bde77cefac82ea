"""What a video feature extractor is: a frozen network that turns uint8 clips into one feature vector each."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn


class VideoExtractor(nn.Module, ABC):
    """A frozen network; subclasses implement `features` and state what a table cell has to carry.

    Also accepted as `feature=` by torchmetrics' FrechetInceptionDistance and KernelInceptionDistance.

    Attributes:
        name: as printed beside a value, such as "i3d-kinetics400".
        sha256: of the weights, hex.
        num_features: D.
        min_frames: fewest frames a clip may have.
        input_size: (height, width) to which clips are resized, None when any size is taken as it is.
        resize: the resize rule in words, part of every cache key.
    """

    name: str
    sha256: str
    num_features: int
    min_frames: int = 1
    input_size: tuple[int, int] | None = None
    resize: str = "none"

    @abstractmethod
    def features(self, videos: Tensor) -> Tensor:
        """Features (B, D) of checked uint8 videos (B, T, C, H, W)."""

    @torch.inference_mode()
    def forward(self, videos: Tensor) -> Tensor:
        """Features of a batch of videos.

        Args:
            videos: uint8 (B, T, C, H, W), 0–255, RGB.

        Returns:
            float32 (B, D).

        Raises:
            ValueError: wrong dtype or rank, or too few frames.
        """
        if videos.dtype != torch.uint8 or videos.ndim != 5:
            raise ValueError(f"{self.name} takes uint8 (B, T, C, H, W), got {videos.dtype} {tuple(videos.shape)}")
        if videos.shape[1] < self.min_frames:
            raise ValueError(f"{self.name} needs at least {self.min_frames} frames, got {videos.shape[1]}")
        return self.features(videos).float()


def extract_features(extractor: VideoExtractor, batches: Iterable[Tensor]) -> Tensor:
    """Features of batches of uint8 videos (b, T, C, H, W), such as `videos.split(16)`; float32 (N, D) on the CPU."""
    return torch.cat([extractor(batch).cpu() for batch in batches])


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_dict_sha256(module: nn.Module) -> str:
    """SHA-256 over a module's parameters and buffers: names, dtypes, shapes and bytes, in sorted order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
