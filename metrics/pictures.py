"""Frames that are pictures: read whole, or named."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from metrics.decoder import decode_picture
from metrics.errors import VideoError, unreadable
from metrics.files.tree import frame_files

_JPEG = b"\xff\xd8"
# What FFmpeg says of entropy-coded data that do not add up; it also refuses sound files of rare kinds, in other words.
_BROKEN_JPEG = re.compile(r"overread|error y=|error count|bad vlc|invalid id")


def list_pictures(folder: Path) -> list[Path]:
    """The frames of a folder, in natural order.

    Raises:
        VideoError: a folder that cannot be read.
    """
    try:
        return frame_files(folder)
    except OSError as error:
        raise unreadable(folder, error) from None


def read_pictures(files: Sequence[Path]) -> list[np.ndarray]:
    """The pictures, uint8 (H, W, 3), RGB, turned as their EXIF says.

    Raises:
        VideoError: a file that cannot be read or decoded, or holds less than the whole picture.
    """
    contents = [_content(file) for file in files]
    pictures = [_decode(file, content) for file, content in zip(files, contents, strict=True)]
    jpegs = [(file, content) for file, content in zip(files, contents, strict=True) if content.startswith(_JPEG)]
    if jpegs and _is_broken(b"".join(content for _, content in jpegs)):
        for file, content in jpegs:
            if _is_broken(content):
                raise VideoError(f"{file}: damaged: a part of the picture cannot be decoded")
    return pictures


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from None


def _decode(file: Path, content: bytes) -> np.ndarray:
    picture = decode_picture(content)
    if picture is None:
        raise VideoError(f"{file}: {'cannot be decoded: not a whole picture' if content else 'empty file'}")
    return picture


def _is_broken(jpegs: bytes) -> bool:
    """Whether any of these JPEG files, one after the other, has damage inside, over which OpenCV paints."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-err_detect", "explode", "-threads", "1"]
    command += ["-f", "jpeg_pipe", "-i", "-", "-f", "null", "-"]
    done = subprocess.run(command, input=jpegs, capture_output=True, check=False)
    return _BROKEN_JPEG.search(done.stderr.decode(errors="replace")) is not None
