"""Datasets that come as folders of frames, one folder per video: SkyTimelapse, Taichi-HD, FaceForensics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qvd.data.base import Video, VideoFiles

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


@dataclass(frozen=True)
class FrameFolders(VideoFiles):
    """Every folder below the root that holds images, in name order.

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
        if not self._folder.is_dir():
            found = sorted(path.name for path in Path(self.root).iterdir() if path.is_dir())
            raise ValueError(f"dataset.split={self.split}: no such folder in {self.root}, which has {', '.join(found)}")

    @property
    def _folder(self) -> Path:
        return Path(self.root) / self.split

    def list_videos(self) -> list[Video]:
        images = (path for path in self._folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        folders = sorted({image.parent for image in images})
        if not folders:
            raise ValueError(f"{self._folder}: no folder of frames in it (looked for {', '.join(sorted(SUFFIXES))})")
        return [Video(folder, self.caption) for folder in folders]

    def describe(self) -> str:
        return f"{self.name}{f'/{self.split}' if self.split else ''} ({len(self.videos)} videos)"
