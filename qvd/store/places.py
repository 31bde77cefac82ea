"""Where an artifact lies: its lock, and what is done under it with what stands in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from qvd.store.files import patiently


@dataclass(frozen=True)
class Place:
    """Where an artifact lies.

    Attributes:
        root: of the store.
        stage: the sub-folder.
        key: SHA-256 of the stage and the inputs.
    """

    root: Path
    stage: str
    key: str

    @property
    def sidecar(self) -> Path:
        return self.root / self.stage / f"{self.key}.json"

    @property
    def tensors(self) -> Path:
        return self.sidecar.with_suffix(".safetensors")

    @property
    def lock(self) -> Path:
        return self.sidecar.with_suffix(".lock")

    @property
    def work(self) -> Path:
        """The folder of unfinished work."""
        return self.sidecar.with_suffix(".work")

    @property
    def is_there(self) -> bool:
        """Whether both files are; what they hold is not looked at."""
        return self.sidecar.exists() and self.tensors.exists()

    def __str__(self) -> str:
        return str(self.sidecar.with_suffix(""))


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """While open, no other process makes the artifact; a lock whose owner died is free."""
    lock = FileLock(place.lock)
    patiently(lock.acquire, f"{place.lock}: cannot be locked")
    try:
        yield
    finally:
        lock.release()


def clear(place: Place) -> None:
    """Make room for both files of an artifact that is not there: half a pair, another version, or no files at all."""
    patiently(lambda: set_aside(place.tensors, unless_file=True), f"{place}: cannot be set aside")
    if place.sidecar.is_file():
        patiently(lambda: place.sidecar.unlink(missing_ok=True), f"{place}: cannot be replaced")
    set_aside(place.sidecar, unless_file=True)


def set_aside(path: Path, unless_file: bool = False) -> None:
    """Rename to *.damaged, in the place of what may have been there before."""
    if not os.path.lexists(path) or (unless_file and path.is_file()):
        return
    aside = path.with_name(f"{path.name}.damaged")

    def move() -> None:
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        elif path.is_dir():
            aside.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # where locks do not reach, another may have done it
            os.replace(path, aside)

    patiently(move, f"{path}: cannot be set aside")
