"""What a dataset is: prompts for sampling, and reference clips that are drawn or lie in files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from metrics.files.tree import Listing


@dataclass(frozen=True)
class VideoDataset(ABC):
    """Prompts and a name; where the reference clips come from is said by `DrawnClips` and `VideoFiles`."""

    @abstractmethod
    def prompt(self, index: int, split: str = "evaluation") -> str:
        """The caption that sample `index` of `split` ("calibration" or "evaluation") is drawn for."""

    @abstractmethod
    def describe(self) -> str:
        """Short name for tables."""


@dataclass(frozen=True)
class DrawnClips(VideoDataset):
    """Reference clips that are drawn by number, as many as are asked for."""

    @property
    @abstractmethod
    def prompts_match_clips(self) -> bool:
        """Whether sample i of the evaluation split is prompted with the caption of clip i."""

    @abstractmethod
    def manifest(self) -> str:
        """A hash of everything that determines the clips' pixels and order."""

    @abstractmethod
    def frames(self, index: int) -> np.ndarray:
        """uint8 (T, 3, H, W), RGB: clip number `index`."""


@dataclass(frozen=True)
class Video:
    """One video of a dataset.

    Attributes:
        path: a video file, or a folder of frames.
        caption: the text a model would be prompted with.
    """

    path: Path
    caption: str


@dataclass(frozen=True)
class VideoFiles(VideoDataset):
    """Videos in a folder. Which of their frames become clips is the protocol's; nothing is opened here.

    Attributes:
        root: the folder.
        skip_bad: leave out videos that cannot be used and report how many, rather than stop.
    """

    root: str = ""
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if not os.path.isdir(self.root):
            raise ValueError(f"dataset.root={self.root}: no such folder")

    @abstractmethod
    def find_videos(self) -> Listing:
        """The files or folders of frames, at least one, in natural order; see `metrics.files.tree`.

        Raises:
            ValueError: none, or a layout that is not the dataset's.
        """

    @abstractmethod
    def caption_of(self, path: Path) -> str:
        """The text a model would be prompted with for the video."""

    @cached_property
    def listing(self) -> Listing:
        """What `find_videos` finds, at least one video."""
        listing = self.find_videos()
        if not listing.paths:
            raise ValueError(f"dataset.root={self.root}: no video in it")
        return listing

    @cached_property
    def videos(self) -> list[Video]:
        """Every video in natural order; at least one."""
        return [Video(path, self.caption_of(path)) for path in self.listing.paths]

    @cached_property
    def classes(self) -> list[str]:
        """The distinct captions, in natural order of their first videos."""
        return list(dict.fromkeys(video.caption for video in self.videos))

    def calibration_captions(self) -> list[str]:
        """What calibration samples are prompted with, in turn."""
        return self.classes

    @cached_property
    def _calibration_captions(self) -> list[str]:
        return self.calibration_captions()

    def prompt(self, index: int, split: str = "evaluation") -> str:
        captions = self._calibration_captions if split == "calibration" else self.classes
        return captions[index % len(captions)]

    def describe(self) -> str:
        return f"{Path(self.root).name} ({len(self.videos)} videos)"
