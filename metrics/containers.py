"""Whether a video file is all there, by its own account: a clip can be decoded from what is left of a truncated one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2

from metrics.decoder import open_capture, promised_frames
from metrics.errors import VideoError, unreadable
from metrics.files.tree import is_picture

_WHOLE = 0.9  # of the bytes or frames: some writers round up, some players cut
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")


def check_whole(path: Path) -> None:
    """Nothing is decoded, unless the container says nothing of its length and its tail is not found.

    Raises:
        VideoError: cannot be read, empty, a picture, or truncated.
    """
    try:
        status = path.stat()
        promised = _promised_bytes(path, status.st_size)
    except OSError as error:
        raise unreadable(path, error) from None
    if status.st_size == 0:
        raise VideoError(f"{path}: empty file")
    if is_picture(path):
        raise VideoError(f"{path}: an image, not a video")
    if promised is not None and status.st_size < _WHOLE * promised:
        raise VideoError(f"{path}: truncated: fewer than 90 % of its {promised} bytes are there")
    if promised is None and _lacks_tail(path, status.st_size, status.st_mtime_ns):
        raise VideoError(f"{path}: truncated: the last tenth cannot be decoded")


def _promised_bytes(path: Path, size: int) -> int | None:
    """The file's length by its own account, for AVI (RIFF), MP4 and MOV (ISO 14496-12) and Matroska (RFC 9559)."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return 8 + int.from_bytes(head[4:8], "little")
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _promised_by_matroska(head)
        if head[4:8] not in _MP4_BOXES:
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


def _promised_by_matroska(head: bytes) -> int | None:
    """The end of the segment behind the header; None in a live recording, which does not know it."""
    header_size, start = _element_size(head, 4)
    segment = start + header_size
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return None
    size, start = _element_size(head, segment + 4)
    width = start - segment - 4
    return None if size == (1 << 7 * width) - 1 else start + size


def _element_size(data: bytes, position: int) -> tuple[int, int]:
    """A size of variable width, whose first set bit tells the width, and where it ends."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length() if first else 8
    return int.from_bytes(data[position : position + width]) & ((1 << 7 * width) - 1), position + width


@cache
def _lacks_tail(path: Path, size: int, modified: int) -> bool:
    """Whether no frame near the promised end is found, neither by a jump nor in order; by a capture of its own, because
    in some containers a jump cannot be taken back."""
    capture = open_capture(path)
    near_end = int(_WHOLE * promised_frames(capture))
    if near_end == 0:
        return False
    capture.set(cv2.CAP_PROP_POS_FRAMES, near_end)
    if capture.grab():
        return False
    capture = open_capture(path)
    frames = 0
    while frames < near_end and capture.grab():
        frames += 1
    return 0 < frames < near_end
