"""Whether a video file is all there, by its own account: a clip can be decoded from what is left of a truncated one.

No decoder is asked. In containers that keep no account (MPEG streams, Ogg) the frames that are there are all there are.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from metrics.errors import VideoError, unreadable
from metrics.files.tree import is_picture

_WHOLE = 0.9  # of the bytes: some writers round up, some tools cut off what no player needs
_HEAD = _TAIL = 4096
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check_whole(path: Path) -> None:
    """Look at a video file from outside.

    Raises:
        VideoError: cannot be read, empty, a picture, or truncated.
    """
    try:
        size = path.stat().st_size
        promised, ends_early = _promised_bytes(path, size), _lacks_its_end(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if size == 0:
        raise VideoError(f"{path}: empty file")
    if is_picture(path):
        raise VideoError(f"{path}: an image, not a video")
    if promised is not None and size < _WHOLE * promised:
        raise VideoError(f"{path}: truncated: fewer than 90 % of its {promised} bytes are there")
    if ends_early:
        raise VideoError(f"{path}: truncated: its end marker is missing")


def _promised_bytes(path: Path, size: int) -> int | None:
    """The file's length by its own account; None where it gives none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head[4:8] in _MP4_BOXES:
            return _end_of_boxes(file, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _end_of_segment(head)
    if head[:3] == b"FLV":
        found = head.find(b"filesize\0")
        return None if found < 0 else int(struct.unpack_from(">d", head, found + 9)[0]) or None
    if (found := head.find(_ASF_PROPERTIES)) >= 0:
        return int.from_bytes(head[found + 40 : found + 48], "little") or None
    return None


def _lacks_its_end(path: Path) -> bool:
    """Of GIF, which gives no length but ends in a semicolon; padding may follow."""
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            return False
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return not file.read().rstrip(b"\0").endswith(b";")


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Of MP4 and MOV (ISO 14496-12)."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        box = file.read(16)
        length = int.from_bytes(box[:4])
        if length == 0:  # the last box, up to the end of the file
            return size
        end += max(length if length > 1 else int.from_bytes(box[8:]), 8)
    return end


def _end_of_segment(head: bytes) -> int | None:
    """Of Matroska and WebM (RFC 9559); None in a live recording, which does not know it."""
    header_size, start = _element_size(head, 4)
    segment = start + header_size
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return None
    size, start = _element_size(head, segment + 4)
    unknown = (1 << 7 * (start - segment - 4)) - 1
    return None if size == unknown else start + size


def _element_size(data: bytes, position: int) -> tuple[int, int]:
    """A size of variable width, whose first set bit tells the width, and where it ends."""
    width = 9 - data[position].bit_length() if position < len(data) and data[position] else 8
    return int.from_bytes(data[position : position + width]) & ((1 << 7 * width) - 1), position + width
