"""Batches of procedural clips for training, kept in memory as uint8."""

from __future__ import annotations

import numpy as np
import torch

from qvd.data.shapes import ATTRIBUTES, Shapes


class ClipBank:
    """The first `size` clips of the training split.

    Attributes:
        frames: uint8 (size, T, 3, H, W).
        captions: one per clip.
        labels: long (size, 3), class indices in the order of ATTRIBUTES.
    """

    def __init__(self, size: int, split: str = "train") -> None:
        dataset = Shapes(split=split)
        clips = [dataset.clip(index) for index in range(size)]
        self.frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        self.captions = [clip.caption for clip in clips]
        labels = [dataset.attributes(index).labels for index in range(size)]
        self.labels = torch.tensor([[label[name] for name in ATTRIBUTES] for label in labels])

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """`count` clip indices, with replacement."""
        return torch.randint(len(self.captions), (count,), generator=generator)


def to_model_range(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] → float [−1, 1]."""
    return frames.float() / 127.5 - 1.0
