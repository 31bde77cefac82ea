"""What a dataset is: prompts for sampling and reference clips for FVD, addressable by index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clip:
    """One reference clip.

    Attributes:
        frames: uint8 (T, 3, H, W).
        caption: the text a model would be prompted with.
        source: where the clip comes from (file and first frame, or split and index).
    """

    frames: np.ndarray
    caption: str
    source: str


@dataclass(frozen=True)
class VideoDataset(ABC):
    """Prompts and reference clips, in the model's geometry.

    Attributes:
        resolution: side of the square frames in pixels.
        num_frames: frames per clip.
    """

    resolution: int = 32
    num_frames: int = 8

    def __post_init__(self) -> None:
        for field in ("resolution", "num_frames"):
            if getattr(self, field) < 1:
                raise ValueError(f"dataset.{field}={getattr(self, field)}: must be at least 1")

    @abstractmethod
    def clip(self, index: int) -> Clip:
        """The clip at `index`, always the same one.

        Raises:
            ValueError: a file that cannot be decoded, named.
        """

    @abstractmethod
    def prompt(self, index: int, split: str = "evaluation") -> str:
        """The caption that sample `index` of `split` ("calibration" or "evaluation") is drawn for."""

    @property
    def prompts_match_clips(self) -> bool:
        """Whether sample i of the evaluation split is prompted with the caption of clip i."""
        return False

    @abstractmethod
    def available_clips(self) -> int | None:
        """How many clips there are; None when they are made on demand.

        Raises:
            ValueError: no clip at all, or a file that is no video, named.
        """

    @abstractmethod
    def manifest(self) -> str:
        """SHA-256 over everything that determines the clips' pixels and order."""

    @abstractmethod
    def describe(self) -> str:
        """Short name for tables."""
