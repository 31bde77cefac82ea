"""Reference clips from any folder of videos, decoded with OpenCV.

Sub-folders are classes, as in UCF-101's `class/*.avi`. Every non-overlapping window of a video is a clip.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from pathlib import Path

# A file that is no video is reported by us, in one line; FFmpeg's own words would come on top.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
import cv2
import numpy as np

from qvd.data.base import Clip, VideoDataset
from qvd.data.shapes import Shapes

SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


class PromptSource(Enum):
    """Where prompts come from: the captions of `shapes`, or the folder's class names."""

    shapes = "shapes"
    classes = "classes"


@dataclass(frozen=True)
class _Window:
    path: Path
    start: int


@dataclass(frozen=True)
class VideoFolder(VideoDataset):
    """Centre-cropped square clips, resized with INTER_AREA.

    Attributes:
        root: the folder; searched recursively, in name order.
        stride: distance of a clip's frames in the video.
        clips_per_video: at most this many, evenly spread; None takes every non-overlapping window.
        prompts: captions of `shapes` (the folder is only the reference), or the class names in words.
    """

    root: str = ""
    stride: int = 1
    clips_per_video: int | None = None
    prompts: PromptSource = PromptSource.shapes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride < 1:
            raise ValueError(f"dataset.stride={self.stride}: must be at least 1")
        if self.clips_per_video is not None and self.clips_per_video < 1:
            raise ValueError(f"dataset.clips_per_video={self.clips_per_video}: must be at least 1, or null for all")
        if not Path(self.root).is_dir():
            raise ValueError(f"dataset.root={self.root}: no such folder")

    @cached_property
    def videos(self) -> list[Path]:
        """Every video file below the root, in name order."""
        found = sorted(path for path in Path(self.root).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"dataset.root={self.root}: no video in it (looked for {', '.join(SUFFIXES)})")
        return found

    @cached_property
    def _windows(self) -> list[_Window]:
        span = (self.num_frames - 1) * self.stride + 1
        windows: list[_Window] = []
        for path in self.videos:
            starts = np.arange(0, _count_frames(path) - span + 1, span)
            if self.clips_per_video is not None and len(starts) > self.clips_per_video:
                starts = starts[np.linspace(0, len(starts) - 1, self.clips_per_video).round().astype(int)]
            windows += [_Window(path, int(start)) for start in starts]
        if not windows:
            raise ValueError(f"dataset.root={self.root}: no video is as long as one clip, {span} frames")
        return windows

    def available_clips(self) -> int:
        return len(self._windows)

    def clip(self, index: int) -> Clip:
        window = self._windows[index]
        stop = window.start + (self.num_frames - 1) * self.stride + 1
        frames = _read_frames(window.path, self.resolution)[window.start : stop : self.stride]
        if len(frames) < self.num_frames:
            raise ValueError(f"{window.path}: frame {window.start + len(frames) * self.stride} cannot be decoded")
        return Clip(frames.transpose(0, 3, 1, 2), self._class_words(window.path), f"{window.path}@{window.start}")

    def prompt(self, index: int, split: str = "evaluation") -> str:
        if self.prompts is PromptSource.shapes:
            return Shapes(self.resolution, self.num_frames).prompt(index, split)
        return self._class_words(self.videos[index % len(self.videos)])

    def manifest(self) -> str:
        total = hashlib.sha256(f"{self.resolution} {self.num_frames} {self.stride} {cv2.__version__}".encode())
        digests = {path: _digest(path) for path in self.videos}
        for window in self._windows:
            name = window.path.relative_to(self.root)
            total.update(f"{name} {digests[window.path]} {window.start}\n".encode())
        return total.hexdigest()

    def describe(self) -> str:
        return f"folder {Path(self.root).name} ({len(self.videos)} videos, {self.available_clips()} clips)"

    def _class_words(self, path: Path) -> str:
        folder = path.relative_to(self.root).parent.name or path.stem
        return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-]+", " ", folder).lower()


def _count_frames(path: Path) -> int:
    """Frames that really decode: the container's own count is often wrong.

    Raises:
        ValueError: the file is empty, or holds no video stream that OpenCV can decode.
    """
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    if count == 0:
        raise ValueError(f"{path}: not a readable video")
    return count


@lru_cache(maxsize=2)
def _read_frames(path: Path, resolution: int) -> np.ndarray:
    """uint8 (F, resolution, resolution, 3): the whole video, RGB.

    Decoded from the beginning, because seeking is inexact in most codecs, and kept while its clips are read.
    """
    capture = cv2.VideoCapture(str(path))
    frames: list[np.ndarray] = []
    while True:
        decoded, frame = capture.read()
        if not decoded:
            break
        frames.append(_square(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), resolution))
    capture.release()
    return np.stack(frames) if frames else np.empty((0, resolution, resolution, 3), np.uint8)


def _square(frame: np.ndarray, resolution: int) -> np.ndarray:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = frame[top : top + side, left : left + side]
    return cv2.resize(cropped, (resolution, resolution), interpolation=cv2.INTER_AREA)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
