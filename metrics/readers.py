"""Frames of a video file in order. There is no jumping: where a seek ends depends on container and codec, and is wrong
in some; the number of a frame is how many are decoded before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import cv2
import imageio_ffmpeg
import numpy as np

from metrics.containers import check_whole
from metrics.decoder import open_capture, promised_frames
from metrics.errors import VideoError


class FrameReader(ABC):
    """The frames of one file, from the first on.

    Attributes:
        decodes: whether there is a first frame.
        position: how many frames are behind.
        promised: how many there are by the header, right or wrong; 0 where it does not say.
    """

    promised: int = 0

    def __init__(self) -> None:
        self.position = 0
        self.decodes = self._ahead = self._decode()

    def step(self) -> bool:
        """Go on to the next frame; False at the end."""
        there = self._ahead or self._decode()
        self._ahead = False
        self.position += there
        return there

    @abstractmethod
    def frame(self) -> np.ndarray:
        """The frame that was stepped to, uint8 (H, W, 3), RGB."""

    @abstractmethod
    def _decode(self) -> bool:
        """Decode the next frame; False at the end."""

    @abstractmethod
    def close(self) -> None:
        """Free what decodes."""


class OpenCVReader(FrameReader):
    """By the FFmpeg inside OpenCV."""

    def __init__(self, path: Path) -> None:
        self._capture = open_capture(path)
        self.promised = promised_frames(self._capture)
        super().__init__()

    @property
    def is_video(self) -> bool:
        """Whether the file has a video stream, decodable or not."""
        return self._capture.isOpened()

    @property
    def codec(self) -> str:
        """By its four letters, such as AV01."""
        return int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")

    def _decode(self) -> bool:
        return self._capture.grab()

    def frame(self) -> np.ndarray:
        return cv2.cvtColor(self._capture.retrieve()[1], cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._capture.release()


class FFmpegReader(FrameReader):
    """By the binary that imageio-ffmpeg brings, which knows codecs that OpenCV lacks, such as AV1."""

    def __init__(self, path: Path) -> None:
        self._frames = imageio_ffmpeg.read_frames(
            str(path), input_params=["-threads", "1"], output_params=["-fps_mode", "passthrough"]
        )
        self._pixels = b""
        width, height = next(self._frames)["size"]
        self._shape = (height, width, 3)
        super().__init__()

    def _decode(self) -> bool:
        try:
            self._pixels = next(self._frames, b"")
        except RuntimeError:  # a last frame that is not whole
            self._pixels = b""
        return bool(self._pixels)

    def frame(self) -> np.ndarray:
        return np.frombuffer(self._pixels, np.uint8).reshape(self._shape)

    def close(self) -> None:
        self._frames.close()


def open_reader(path: Path) -> FrameReader:
    """A reader at the first frame.

    Raises:
        VideoError: cannot be read, empty, not a video, no video stream, truncated, or of a codec unknown here.
    """
    check_whole(path)
    reader = OpenCVReader(path)
    if not reader.is_video:  # not asked of FFmpeg's binary, to which text is a video of a terminal
        raise VideoError(f"{path}: not a video, no video stream, or truncated")
    if reader.decodes:
        return reader
    other = FFmpegReader(path)
    if not other.decodes:
        other.close()
        raise VideoError(
            f"{path}: no frame can be decoded: damaged, or its codec {reader.codec or '?'} is not known here"
        )
    other.promised = reader.promised
    return other


class OpenReaders:
    """Readers that go on where the last clip of their file ended; safe for several threads.

    Args:
        paths: the file of every clip that will be read; a reader is kept while there are more of its file.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._to_come, self._lock = Counter(paths), Lock()
        self._idle: dict[FrameReader, Path] = {}

    @contextmanager
    def at(self, path: Path, start: int) -> Iterator[FrameReader]:
        """A reader of the file whose next frame is number `start`, or that is at the end before.

        Raises:
            VideoError: as `open_reader`.
        """
        reader = self._take(path, start) or open_reader(path)
        while reader.position < start and reader.step():
            pass
        try:
            yield reader
        finally:
            self._put(reader, path)

    def close(self) -> None:
        """Close those that are kept."""
        while self._idle:
            self._idle.popitem()[0].close()

    def _take(self, path: Path, start: int) -> FrameReader | None:
        """The one of the file that is nearest before `start`."""
        with self._lock:
            near = [reader for reader, of in self._idle.items() if of == path and reader.position <= start]
            nearest = max(near, key=lambda reader: reader.position, default=None)
            if nearest is not None:
                del self._idle[nearest]
            return nearest

    def _put(self, reader: FrameReader, path: Path) -> None:
        with self._lock:
            self._to_come[path] -= 1
            self._idle[reader] = path
            done = [] if self._to_come[path] > 0 else [old for old, of in self._idle.items() if of == path]
            for old in done:
                del self._idle[old]
        for old in done:
            old.close()
