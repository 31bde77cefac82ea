"""What may be deleted from a store, and how: under the lock of the artifact, never what a process is making."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from qvd.store.files import DamagedError
from qvd.store.inventory import Inventory, size_of, take_inventory
from qvd.store.places import Place
from qvd.store.records import OtherFormatError, read_record

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Removal:
    """Files that may go together.

    Attributes:
        why: in words that others share.
        paths: the sidecar first, so that an interrupted deletion leaves half a pair and not a wrong one.
        place: the artifact whose lock is needed; None: nobody uses them.
    """

    why: str
    paths: tuple[Path, ...]
    place: Place | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(size_of, self.paths))


def plan(root: Path, kept: Collection[Place] | None, older_than: float) -> list[Removal]:
    """What may be deleted.

    Args:
        kept: the artifacts that are needed; None: all that can be read.
        older_than: seconds; a younger artifact, or work, is not deleted: a run may be at it that is not named.

    Raises:
        FileNotFoundError: there is no such store.
        StoreError: a sidecar cannot be read just now.
    """
    found = take_inventory(root)
    before = time.time() - older_than
    removals = [Removal("left by a killed write", (path,)) for path in found.abandoned]
    removals += [Removal("set aside as damaged", (path,)) for path in found.damaged]
    removals += [Removal("half an artifact", _files(place), place) for place in found.halves]
    removals += [Removal("lock of no artifact", (place.lock,), place) for place in found.locks]
    removals += [
        Removal("unfinished work", (place.work,), place) for place in found.work if _youngest(place.work) < before
    ]
    return [*removals, *_artifacts(found, kept, before)]


def remove(removal: Removal) -> bool:
    """Delete files; False: a process is making the artifact, and they stay."""
    if removal.place is None:
        _delete(removal)
        return True
    lock = FileLock(removal.place.lock, timeout=0)
    try:
        with lock:
            _delete(removal)
            if not removal.place.work.exists():
                removal.place.lock.unlink(missing_ok=True)  # whoever waits for it sees that and takes a new one
    except Timeout:
        return False
    return True


def _artifacts(found: Inventory, kept: Collection[Place] | None, before: float) -> Iterator[Removal]:
    for stored in found.artifacts:
        place = stored.place
        if kept is not None and place not in kept:
            if stored.modified < before:
                yield Removal("needed by no run named", _files(place), place)
            continue
        try:
            read_record(place)
        except OtherFormatError:
            yield Removal("of an earlier version", _files(place), place)
        except DamagedError:
            yield Removal("damaged", _files(place), place)


def _files(place: Place) -> tuple[Path, ...]:
    return place.sidecar, place.tensors


def _youngest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _delete(removal: Removal) -> None:
    for path in removal.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
