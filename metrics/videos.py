"""Clips from folders of videos, decoded with OpenCV; a file that cannot be used is named, never silently dropped."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.protocols import ClipRule

# OpenCV's and FFmpeg's messages about broken files would come between our own one-line errors.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


class VideoError(ValueError):
    """A file that does not hold the clip asked for; the message names it."""


def read_clips(
    paths: list[Path],
    rule: ClipRule,
    batch_size: int = 8,
    workers: int = 2,
    skipped: list[VideoError] | None = None,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Batches of clips in order, decoded ahead by threads; memory does not grow with the number of videos.

    Args:
        paths: video files or folders of frames.
        rule: which frames.
        batch_size: videos per batch.
        workers: decoding threads; 0 decodes here.
        skipped: where to note unusable videos, unless all are; None makes them an error.

    Yields:
        (paths, uint8 (b, T, 3, H, W)).

    Raises:
        VideoError: unusable videos, one line for each.
        ValueError: frames of different sizes, when the rule has no resolution.
    """
    errors: list[VideoError] = []
    clips = _decode_ahead(paths, rule, workers, ahead=2 * batch_size)
    while batch := list(islice(clips, batch_size)):
        errors += [clip for _, clip in batch if isinstance(clip, VideoError)]
        good = [(path, clip) for path, clip in batch if not isinstance(clip, VideoError)]
        # After an error only the remaining ones are looked for, to name them all at once.
        if good and (skipped is not None or not errors):
            odd = next((path for path, clip in good if clip.shape != good[0][1].shape), None)
            if odd:
                raise ValueError(f"{odd}: frames of another size than {good[0][0]}; use a resolution or batches of one")
            yield [path for path, _ in good], torch.stack([clip for _, clip in good])
    if (skipped is None and errors) or len(errors) == len(paths):
        raise VideoError("\n".join(map(str, errors)))
    if skipped is not None:
        skipped += errors


def _decode_ahead(
    paths: list[Path], rule: ClipRule, workers: int, ahead: int
) -> Iterator[tuple[Path, Tensor | VideoError]]:
    """Every path with its clip or error, in order, at most `ahead` videos in advance.

    Threads, because OpenCV decodes outside the interpreter lock, and because a forked process hangs when it frees a
    capture that it inherited: FFmpeg then waits for decoding threads that were not forked.
    """

    def decode(index: int) -> tuple[Path, Tensor | VideoError]:
        try:
            return paths[index], read_clip(paths[index], rule, index)
        except VideoError as error:
            return paths[index], error

    if workers == 0:
        yield from map(decode, range(len(paths)))
        return
    with ThreadPoolExecutor(workers) as pool:
        remaining = iter(range(len(paths)))
        pending = deque(pool.submit(decode, index) for index in islice(remaining, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(decode, index) for index in islice(remaining, 1))


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


def read_clip(path: Path, rule: ClipRule, index: int = 0) -> Tensor:
    """The clip of one video file, or of one folder of frames, as uint8 (T, 3, H, W), RGB.

    Args:
        path: video file or folder of images.
        rule: which frames.
        index: of the video in its set, for the random start.

    Raises:
        VideoError: empty, not a video, no video stream, too short, or truncated.
    """
    frames = _frames_of_folder(path, rule, index) if path.is_dir() else _frames_of_file(path, rule, index)
    return torch.from_numpy(np.stack([_fit(frame, rule.resolution) for frame in frames])).permute(0, 3, 1, 2)


def _frames_of_file(path: Path, rule: ClipRule, index: int) -> list[np.ndarray]:
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: empty file")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise VideoError(f"{path}: an image, not a video")
    promised = _frame_count(path)
    start = _start(path, promised, rule, index)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames: list[np.ndarray] = []
    for position in range(start + rule.span):
        if not capture.grab():
            raise VideoError(f"{path}: truncated: {position} of {promised} frames can be decoded")
        if position >= start and (position - start) % rule.stride == 0:
            frames.append(capture.retrieve()[1])
    return frames


def _frame_count(path: Path) -> int:
    """Frames that the container promises, after a look at one near the end: exact counts are often an estimate."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise VideoError(f"{path}: not a video, no video stream, or truncated")
    promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.set(cv2.CAP_PROP_POS_FRAMES, int(0.9 * promised))
    if not capture.grab():
        raise VideoError(f"{path}: truncated: fewer than 90 % of its {promised} frames can be decoded")
    return promised


def _frames_of_folder(path: Path, rule: ClipRule, index: int) -> list[np.ndarray]:
    images = sorted(path.iterdir())
    start = _start(path, len(images), rule, index)
    frames = []
    for image in images[start : start + rule.span : rule.stride]:
        frame = cv2.imread(str(image))
        if frame is None:
            raise VideoError(f"{image}: cannot be decoded")
        frames.append(frame)
    return frames


def _start(path: Path, available: int, rule: ClipRule, index: int) -> int:
    if available < rule.span:
        raise VideoError(f"{path}: {available} frames, too few for {rule.num_frames} at stride {rule.stride}")
    if not rule.random_start:
        return 0
    return int(np.random.default_rng((rule.seed, index)).integers(available - rule.span + 1))


def _fit(frame: np.ndarray, resolution: int | None) -> np.ndarray:
    frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    if resolution is None:
        return frame
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = frame[top : top + side, left : left + side]
    return crop if side == resolution else cv2.resize(crop, (resolution, resolution), interpolation=cv2.INTER_AREA)
