"""Frames that are pictures: read whole, or named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from metrics.decoder import decode_picture
from metrics.errors import VideoError, unreadable
from metrics.files.tree import frame_files

_JPEG = b"\xff\xd8"
_END = b"\xff\xd9"
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


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
    for file, content in zip(files, contents, strict=True):
        if content.startswith(_JPEG) and (damage := _damage(content)):
            raise VideoError(f"{file}: damaged: a part of the picture cannot be decoded ({damage})")
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


def _damage(jpeg: bytes) -> str | None:
    """What libjpeg warns of, over which OpenCV paints; None for a whole JPEG and for a kind that it does not read."""
    try:
        _decode_jpeg(jpeg, strict=True)
    except ValueError as error:
        if not _is_padding(jpeg, str(error)) and _is_readable(jpeg):
            return str(error)
    return None


def _is_padding(jpeg: bytes, warning: str) -> bool:
    """Whether what is left over after the last pixel is one byte over and over, as some cameras write."""
    left_over = _LEFT_OVER.search(warning)
    return left_over is not None and len(set(jpeg[: jpeg.rfind(_END)][-int(left_over[1]) :])) == 1


def _is_readable(jpeg: bytes) -> bool:
    try:
        _decode_jpeg(jpeg, strict=False)
    except ValueError:
        return False
    return True


def _decode_jpeg(jpeg: bytes, strict: bool) -> None:
    """In grey, which spares the conversion of colours, where libjpeg can."""
    colours = simplejpeg.decode_jpeg_header(jpeg, strict=strict)[2]
    simplejpeg.decode_jpeg(jpeg, "CMYK" if colours in ("CMYK", "YCCK") else "GRAY", strict=strict)
