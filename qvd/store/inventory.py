"""What lies in a store, and what run folders need of it: by names and sizes, without reading a tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qvd.store.owners import abandoned
from qvd.store.places import Place
from qvd.store.records import KEY

LEDGER = "artifacts.txt"  # in a run folder: a line, "stage key", for every artifact that the run was handed
_FILE = re.compile(rf"(?P<key>{KEY.pattern})\.(?P<kind>json|safetensors|lock|work|latest)")
_DAMAGED = re.compile(rf"{KEY.pattern}\.(json|safetensors|latest)\.damaged")


@dataclass(frozen=True)
class Stored:
    """An artifact whose two files are there.

    Attributes:
        size: bytes of both.
        modified: when it was written, seconds since 1970 by the file system's clock.
    """

    place: Place
    size: int
    modified: float


@dataclass
class Inventory:
    """What lies in a store.

    Attributes:
        artifacts: both files are there; whether they hold what was written is for `verify` to say.
        halves: one file of a pair.
        damaged: what was set aside.
        abandoned: what killed writers left.
        work: folders of unfinished work.
        locks: of artifacts that are not there.
    """

    artifacts: list[Stored] = field(default_factory=list)
    halves: list[Place] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    abandoned: list[Path] = field(default_factory=list)
    work: list[Place] = field(default_factory=list)
    locks: list[Place] = field(default_factory=list)


def take_inventory(root: Path) -> Inventory:
    """What lies in the stages' folders of a store; files that are none of its own are not looked at.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"store={root}: no such folder")
    found = Inventory(abandoned=sorted(abandoned(root)))
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        kinds: dict[str, set[str]] = {}
        for path in folder.iterdir():
            if name := _FILE.fullmatch(path.name):
                kinds.setdefault(name["key"], set()).add(name["kind"])
            elif _DAMAGED.fullmatch(path.name):
                found.damaged.append(path)
        for key, present in sorted(kinds.items()):
            _file(found, Place(root, folder.name, key), present)
    return found


def _file(found: Inventory, place: Place, present: set[str]) -> None:
    pair = present & {"json", "safetensors"}
    if len(pair) == 2:
        sidecar = place.sidecar.stat()
        found.artifacts.append(Stored(place, sidecar.st_size + place.tensors.stat().st_size, sidecar.st_mtime))
    elif pair:
        found.halves.append(place)
    if "work" in present:
        found.work.append(place)
    if present == {"lock"}:
        found.locks.append(place)


def ledgers(folders: Iterable[Path]) -> Iterator[Path]:
    """The ledgers of run folders, or of the run folders below folders.

    Raises:
        ValueError: a folder that is none and has none below.
    """
    for folder in folders:
        below = sorted(folder.rglob(LEDGER)) if folder.is_dir() else []
        if not below:
            raise ValueError(
                f"{folder}: no {LEDGER} in or below it, so nobody knows which artifacts it needs; the run's command, "
                "given again, writes it"
            )
        yield from below


def needed(ledger: Path, root: Path) -> set[Place]:
    """The artifacts that a ledger names.

    Raises:
        ValueError: a line that names none.
    """
    places = set()
    for number, line in enumerate(ledger.read_text().splitlines(), 1):
        stage, _, key = line.partition(" ")
        if not KEY.fullmatch(key) or Path(stage).name != stage:
            raise ValueError(f"{ledger}: line {number}, {line!r}, names no artifact: correct or delete it")
        places.add(Place(root, stage, key))
    return places


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where it has vanished."""
    try:
        return sum(map(size_of, path.iterdir())) if path.is_dir() else path.lstat().st_size
    except FileNotFoundError:
        return 0
