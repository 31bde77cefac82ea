"""One clip of one video, decoded with OpenCV; a file that cannot be used is named, never silently dropped.

The only decoder of the repository; torch is not imported here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metrics.options import ClipChoice, ClipRule, Protocol, Resize

# OpenCV's and FFmpeg's messages about broken files would come between our own one-line errors.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
from PIL import Image

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

DECODER = f"opencv {cv2.__version__}"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


class VideoError(ValueError):
    """A file that does not hold the clip asked for; the message names it."""


class Source(NamedTuple):
    """Where a clip comes from.

    Attributes:
        path: video file or folder of frames.
        start: its first frame; None leaves it to the rule.
    """

    path: Path
    start: int | None = None


def find_videos(folder: str | Path) -> list[Path]:
    """Every file below `folder` but hidden ones, in name order; a folder that holds only images counts as one video.

    Raises:
        ValueError: not a folder, or nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise ValueError(f"{folder}: no files in it")
    others = {p.parent for p in files if p.suffix.lower() not in IMAGE_SUFFIXES}
    return sorted({p if p.parent in others else p.parent for p in files})


def choose_clips(videos: list[Path], protocol: Protocol, count: int) -> list[Source]:
    """The reference clips of a protocol, at most `count`, in the order of the videos.

    Nothing is decoded; `windows` opens every container for its number of frames. A video without a window comes with a
    start at its first frame beside the `count` others, so that reading it says what is wrong with it.
    """
    if protocol.choice is ClipChoice.windows:
        return _windows(videos, protocol.reference_rule.span, count)
    if protocol.choice is ClipChoice.random and len(videos) > count:
        chosen = np.random.default_rng(protocol.seed).permutation(len(videos))[:count]
        videos = [videos[i] for i in np.sort(chosen)]
    return [Source(path) for path in videos[:count]]


def _windows(videos: list[Path], span: int, count: int) -> list[Source]:
    sources: list[Source] = []
    for path in videos:
        starts = range(0, _available_frames(path) - span + 1, span)
        chosen = starts[:count] if starts else [0]
        sources += [Source(path, start) for start in chosen]
        count -= len(chosen) if starts else 0
    return sources


def _available_frames(path: Path) -> int:
    """Frames that a folder has or a container promises; 0 where it cannot be opened."""
    try:
        return len(frame_files(path)) if path.is_dir() else _frame_count(_open(path))
    except VideoError:
        return 0


def read_clip(source: Source, rule: ClipRule, index: int = 0) -> np.ndarray:
    """One clip, uint8 (T, 3, H, W), RGB.

    Args:
        source: the video, and the clip's start where the rule does not say.
        rule: which frames.
        index: of the video in its set, for the random start.

    Raises:
        VideoError: empty, not a video, no video stream, too short, or truncated.
    """
    read = _frames_of_folder if source.path.is_dir() else _frames_of_file
    frames = [fit(cv2.cvtColor(f, cv2.COLOR_BGR2RGB), rule.resolution, rule.resize) for f in read(source, rule, index)]
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))


def fit(frame: np.ndarray, resolution: int | None, resize: Resize) -> np.ndarray:
    """The centre square of a frame (H, W, 3), resized to the resolution; None leaves the frame as it is."""
    if resolution is None:
        return frame
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = frame[top : top + side, left : left + side]
    if side == resolution:
        return crop
    if resize is Resize.lanczos:
        return np.asarray(Image.fromarray(crop).resize((resolution, resolution), Image.Resampling.LANCZOS))
    interpolation = cv2.INTER_AREA if resize is Resize.area else cv2.INTER_LINEAR
    return cv2.resize(crop, (resolution, resolution), interpolation=interpolation)


def frame_files(folder: Path) -> list[Path]:
    """Images of a folder in the order of the numbers in their names, so that 10.png follows 9.png."""
    images = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    return sorted(images, key=lambda file: [int(part) if part.isdigit() else part for part in _parts(file.name)])


def _parts(name: str) -> list[str]:
    """Text and digits in turn, text first."""
    return re.split(r"(\d+)", name)


def _frames_of_file(source: Source, rule: ClipRule, index: int) -> list[np.ndarray]:
    capture = _open(source.path)
    promised = _frame_count(capture)
    start = _start(source, promised, rule, index)
    if start:
        capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames: list[np.ndarray] = []
    for position in range(rule.span):
        if not capture.grab():
            raise VideoError(f"{source.path}: truncated: {start + position} of {promised} frames can be decoded")
        if position % rule.stride == 0:
            frames.append(capture.retrieve()[1])
    return frames


def _open(path: Path) -> cv2.VideoCapture:
    size = path.stat().st_size
    if size == 0:
        raise VideoError(f"{path}: empty file")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise VideoError(f"{path}: an image, not a video")
    promised = _promised_bytes(path, size)
    if promised is not None and size < 0.9 * promised:
        raise VideoError(f"{path}: truncated: fewer than 90 % of its {promised} bytes are there")
    # One decoding thread per file: many files are decoded at a time.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise VideoError(f"{path}: not a video, no video stream, or truncated")
    if promised is None:  # a container that does not say how long it is: look at a frame near the end
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(0.9 * _frame_count(capture)))
        if not capture.grab():
            raise VideoError(f"{path}: truncated: the last tenth cannot be decoded")
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    return capture


def _promised_bytes(path: Path, size: int) -> int | None:
    """The file's length by its own account, for AVI (RIFF) and MP4 (ISO 14496-12); None for other containers.

    A clip can be decoded from what is left of a truncated file, whose index and frame count are the old ones.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            return 8 + int.from_bytes(head[4:8], "little")
        if head[4:8] != b"ftyp":
            return None
        end = 0
        while end + 8 <= size:
            file.seek(end)
            box = file.read(16)
            length = int.from_bytes(box[:4])
            if length == 0:  # the last box, up to the end of the file
                return size
            end += max(length if length > 1 else int.from_bytes(box[8:]), 8)
        return end


def _frame_count(capture: cv2.VideoCapture) -> int:
    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))


def _frames_of_folder(source: Source, rule: ClipRule, index: int) -> list[np.ndarray]:
    images = frame_files(source.path)
    start = _start(source, len(images), rule, index)
    frames = []
    for image in images[start : start + rule.span : rule.stride]:
        frame = cv2.imread(str(image))
        if frame is None:
            raise VideoError(f"{image}: cannot be decoded")
        frames.append(frame)
    return frames


def _start(source: Source, available: int, rule: ClipRule, index: int) -> int:
    start = source.start or 0
    if available < start + rule.span:
        raise VideoError(f"{source.path}: {available} frames, too few for {rule.num_frames} at stride {rule.stride}")
    if source.start is not None or not rule.random_start:
        return start
    return int(np.random.default_rng((rule.seed, index)).integers(available - rule.span + 1))
