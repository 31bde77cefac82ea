"""One clip of one video; a file that cannot be used is named, never silently dropped. torch is not imported here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from metrics.counts import FrameCounts
from metrics.errors import VideoError
from metrics.options import ClipChoice, ClipRule, Protocol, Resize
from metrics.pictures import list_pictures, read_pictures
from metrics.readers import OpenReaders


class Source(NamedTuple):
    """Where a clip comes from.

    Attributes:
        path: video file or folder of frames.
        start: its first frame; None leaves it to the rule.
    """

    path: Path
    start: int | None = None


def choose_clips(videos: list[Path], protocol: Protocol, count: int, counts: FrameCounts | None = None) -> list[Source]:
    """The reference clips of a protocol, at most `count`, in the order of the videos.

    Only `windows` opens videos, as many as it needs, for their numbers of frames. A video without a window comes with a
    start at its first frame beside the `count` others, so that reading it says what is wrong with it.

    Args:
        videos: in natural order.
        protocol: which of them.
        count: of clips.
        counts: the frames of each video, as far as they are known.
    """
    if protocol.choice is ClipChoice.windows:
        return _windows(videos, protocol.reference_rule.span, count, counts or FrameCounts())
    if protocol.choice is ClipChoice.random and len(videos) > count:
        chosen = np.random.default_rng(protocol.seed).permutation(len(videos))[:count]
        videos = [videos[i] for i in np.sort(chosen)]
    return [Source(path) for path in videos[:count]]


def _windows(videos: list[Path], span: int, count: int, counts: FrameCounts) -> list[Source]:
    sources: list[Source] = []
    for path in videos:
        if count == 0:
            break
        try:
            available = counts.available(path, limit=count * span)
        except VideoError:
            available = 0
        starts = range(0, available - span + 1, span)
        sources += [Source(path, start) for start in starts or [0]]
        count -= len(starts)
    return sources


def read_clip(
    source: Source,
    rule: ClipRule,
    index: int = 0,
    counts: FrameCounts | None = None,
    readers: OpenReaders | None = None,
) -> np.ndarray:
    """One clip, uint8 (T, 3, H, W), RGB.

    Args:
        source: the video, and the clip's start where the rule does not say.
        rule: which frames.
        index: of the video in its set, for the random start.
        counts: the frames of each video, as far as they are known.
        readers: that have been left open for further clips of the same files.

    Raises:
        VideoError: empty, not a video, no video stream, too short, truncated, or a damaged picture.
    """
    start = _start(source, rule, index, counts or FrameCounts())
    if source.path.is_dir():
        frames = _frames_of_folder(source.path, start, rule)
    else:
        frames = _frames_of_file(source.path, start, rule, readers or OpenReaders([]))
    fitted = [fit(frame, rule.resolution, rule.resize) for frame in frames]
    return np.ascontiguousarray(np.stack(fitted).transpose(0, 3, 1, 2))


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


def _start(source: Source, rule: ClipRule, index: int, counts: FrameCounts) -> int:
    """Where the clip begins; a random start is drawn from those that the decodable frames allow."""
    if source.start is not None or not rule.random_start:
        return source.start or 0
    available = counts.available(source.path)
    if available < rule.span:
        raise VideoError(_too_few(source.path, available, rule))
    return int(np.random.default_rng((rule.seed, index)).integers(available - rule.span + 1))


def _frames_of_file(path: Path, start: int, rule: ClipRule, readers: OpenReaders) -> list[np.ndarray]:
    frames: list[np.ndarray] = []
    with readers.at(path, start) as reader:
        for position in range(rule.span):
            if not reader.step():
                raise VideoError(_too_few(path, reader.position, rule, reader.promised))
            if position % rule.stride == 0:
                frames.append(reader.frame())
    return frames


def _frames_of_folder(folder: Path, start: int, rule: ClipRule) -> list[np.ndarray]:
    files = list_pictures(folder)
    if len(files) < start + rule.span:
        raise VideoError(_too_few(folder, len(files), rule))
    return read_pictures(files[start : start + rule.span : rule.stride])


def _too_few(path: Path, available: int, rule: ClipRule, promised: int = 0) -> str:
    of = f" of the {promised} that its header promises" if promised > available else ""
    return f"{path}: {available} frames{of}, too few for {rule.num_frames} at stride {rule.stride}"
