"""Files that are written whole or not at all, and read whole or not at all.

Three things can go wrong, and they are kept apart: a file is not there (`FileNotFoundError`); it is there and is not
what was written (`DamagedError`); or the system does not let us read or write just now (`StoreError`), which says
nothing about the file, so that it is tried again for a moment and then left alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from qvd.store.owners import partial_of

LARGE = 2**20  # bytes from which free space is looked at before writing
PAUSES = (0.05, 0.2, 0.75)  # seconds between the attempts at what may pass
_PASSING = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOLCK),
    *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT, errno.ENOENT),
}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # what file systems say that sync no folders
T = TypeVar("T")


class StoreError(OSError):
    """The store cannot be read or written just now; one line for the user. Nothing has been set aside."""


class DamagedError(ValueError):
    """A file of the store is there and is not what was written."""


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: something else than a file stands there.
        StoreError: it cannot be read just now.
    """
    return _read(path, lambda handle: handle.read())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, streamed; raises as `read_bytes`."""
    return _read(path, lambda handle: hashlib.file_digest(handle, "sha256").hexdigest())


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whose name appears only once its content is on disk, whoever is killed and whoever else writes.

    Raises:
        StoreError: it cannot be written just now, or there is no room; a file that was there before is still there.
    """
    patiently(partial(_write, path, data), f"{path}: cannot be written", path.parent, len(data))


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` zero bytes whose blocks are on disk: a memory map of it cannot meet a full disk, which ends
    a process by SIGBUS.

    Raises:
        StoreError: there is no room.
    """
    try:
        patiently(partial(_allocate, path, size), f"{path}: cannot be written", path.parent, size)
    except StoreError:
        path.unlink(missing_ok=True)
        raise


def sealed(data: bytes) -> bytes:
    """Data with its SHA-256 in front, for a file that vouches for itself."""
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def unsealed(content: bytes) -> bytes:
    """What `sealed` was given; raises DamagedError."""
    digest, _, data = content.partition(b"\n")
    if digest != hashlib.sha256(data).hexdigest().encode():
        raise DamagedError("the checksum differs")
    return data


def make_folder(path: Path) -> None:
    """Make a folder with those above it; raises StoreError."""

    def make() -> None:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            _sync_folder(path.parent)

    patiently(make, f"{path}: cannot be made")


def patiently(action: Callable[[], T], failure: str, folder: Path | None = None, needed: int = 0) -> T:
    """What `action` returns, tried again where the error may pass.

    Args:
        failure: begins the message of the StoreError that any other OSError than StoreError becomes.
        folder, needed: where `action` writes how many bytes, for the message about a full disk.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except StoreError:
            raise
        except OSError as error:
            if pause is None or error.errno not in _PASSING:
                full = folder is not None and error.errno in _FULL
                raise StoreError(_no_room(folder, needed) if full else f"{failure}: {_reason(error)}") from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def check_room(folder: Path, needed: int) -> None:
    """Refuse a large write that the disk has no room for; raises StoreError."""
    if needed >= LARGE and free_bytes(folder) < needed:
        raise StoreError(_no_room(folder, needed))


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to a folder's disk."""
    return shutil.disk_usage(folder).free


def size_text(count: float) -> str:
    """A number of bytes for people, e.g. "3.2 GiB"."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            break
        count, unit = count / 1024, larger
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _no_room(folder: Path | None, needed: int) -> str:
    assert folder is not None, "who needs room says where"
    try:
        free = size_text(free_bytes(folder))
    except OSError:
        free = "unknown"
    return f"{folder}: no room on this disk: {size_text(needed)} needed, {free} free; make room, or name another folder"


def _reason(error: OSError) -> str:
    said = error.strerror or str(error)
    return f"{said} (nothing was set aside; the same command tries again)" if error.errno in _PASSING else said


def _read(path: Path, action: Callable[[BufferedReader], T]) -> T:
    def attempt() -> T | None:
        try:
            with _opened(path) as handle:
                return action(handle)
        except FileNotFoundError:
            return None

    content = patiently(attempt, f"{path}: cannot be read")
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return content


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)  # before opening: that of a pipe waits for a writer
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        is_file = False
    if not is_file:
        raise DamagedError(f"{path.name} is no file")
    with open(path, "rb") as handle:
        yield handle


def _write(path: Path, data: bytes) -> None:
    check_room(path.parent, len(data))
    unfinished = partial_of(path)
    try:
        with open(unfinished, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new name lasts through a power cut only once its folder is on disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise
    finally:
        os.close(descriptor)


def _allocate(path: Path, size: int) -> None:
    check_room(path.parent, size)
    with open(path, "wb") as handle:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(handle.fileno(), 0, size)
        else:  # macOS
            for first in range(0, size, LARGE):
                handle.write(bytes(min(LARGE, size - first)))
