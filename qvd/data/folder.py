"""Reference clips from any folder of videos. Sub-folders are classes, whose names in words are the captions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from metrics.files.tree import Listing, find_video_files
from qvd.data.base import VideoFiles


@dataclass(frozen=True)
class VideoFolder(VideoFiles):
    """Every video file below the root, which is searched recursively, in natural order."""

    def find_videos(self) -> Listing:
        return find_video_files(self.root)

    def caption_of(self, path: Path) -> str:
        folder = path.relative_to(self.root).parent.name or path.stem
        return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-]+", " ", folder).lower()

    def describe(self) -> str:
        return f"folder {super().describe()}"
