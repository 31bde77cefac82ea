"""Safetensors files opened with errors that people can read: the library's own name no file, and hide the cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from qvd.store.files import DamagedError, StoreError


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """`safe_open` of a file, memory-mapped while open.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is no safetensors file, or only a part of one.
        StoreError: it cannot be opened just now.
    """
    try:
        content = safe_open(path, "pt")
    except SafetensorError as error:
        raise DamagedError(f"{path}: no whole safetensors file: {error}") from error
    except OSError as error:  # with too many files open it says that there is no such file
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file any more") from error
        raise StoreError(f"{path}: cannot be opened just now: {error}") from error
    with content:
        yield content
