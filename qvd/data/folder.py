"""Reference clips from any folder of videos. Sub-folders are classes, whose names in words are the captions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qvd.data.base import Video, VideoFiles

SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


@dataclass(frozen=True)
class VideoFolder(VideoFiles):
    """Every video file below the root, which is searched recursively, in name order."""

    def list_videos(self) -> list[Video]:
        found = sorted(path for path in Path(self.root).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"dataset.root={self.root}: no video in it (looked for {', '.join(SUFFIXES)})")
        return [Video(path, self._class_words(path)) for path in found]

    def describe(self) -> str:
        return f"folder {super().describe()}"

    def _class_words(self, path: Path) -> str:
        folder = path.relative_to(self.root).parent.name or path.stem
        return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-]+", " ", folder).lower()
