"""Datasets that come as folders of frames, one folder per video: SkyTimelapse, Taichi-HD, FaceForensics."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from metrics.files.tree import Listing, find_frame_folders, sub_folders
from qvd.data.base import VideoFiles


@dataclass(frozen=True)
class FrameFolders(VideoFiles):
    """Every folder below the root that holds images, in natural order.

    Attributes:
        name: of the dataset, for tables.
        split: sub-folder of the root to use; empty takes all.
        caption: of every video; these datasets have no classes.
    """

    name: str = "frames"
    split: str = ""
    caption: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not os.path.isdir(self._folder):
            found = ", ".join(path.name for path in sub_folders(Path(self.root)))
            raise ValueError(f"dataset.split={self.split}: no such folder in {self.root}, which has {found}")

    @property
    def _folder(self) -> Path:
        return Path(self.root) / self.split

    def find_videos(self) -> Listing:
        return find_frame_folders(self._folder)

    def caption_of(self, path: Path) -> str:
        return self.caption

    def describe(self) -> str:
        return f"{self.name}{f'/{self.split}' if self.split else ''} ({len(self.videos)} videos)"
