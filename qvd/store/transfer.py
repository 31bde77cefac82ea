"""Artifacts to another store, by way of a tar file: verified on the way out and on the way in."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from qvd.store.files import DamagedError, check_room, make_folder, patiently, write_atomically
from qvd.store.owners import partial_of
from qvd.store.places import Place, clear, locked
from qvd.store.records import KEY, Record, verify

_MEMBER = re.compile(rf"(?P<stage>[A-Za-z0-9_]+)/(?P<key>{KEY.pattern})\.(?P<kind>json|safetensors)")


def export_artifacts(places: Iterable[Place], archive: Path) -> int:
    """Write artifacts into a tar file, and return how many; the file appears once it is whole.

    Raises:
        ValueError: one of them is not there, or not what was written.
        StoreError: it cannot be read or written just now.
    """
    chosen = sorted(places, key=str)
    for place in chosen:
        if verify(place) is None:
            raise ValueError(f"{place}: not in the store; the run's command, given again, computes it")
    unfinished = partial_of(archive)

    def write() -> None:
        with tarfile.open(unfinished, "w") as tar:
            for place in chosen:
                for path in (place.sidecar, place.tensors):
                    tar.add(path, f"{place.stage}/{path.name}")
        os.replace(unfinished, archive)

    try:
        size = sum(path.stat().st_size for place in chosen for path in (place.sidecar, place.tensors))
        check_room(archive.parent, size)
        patiently(write, f"{archive}: cannot be written", archive.parent, size)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()
    return len(chosen)


def import_artifacts(archive: Path, root: Path) -> tuple[int, int]:
    """Take in what `export_artifacts` wrote: (how many were taken in, how many were there).

    Each is verified before it appears. Names other than an artifact's are refused, so nothing is written elsewhere.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such tar file, or something in it is not what was written.
        StoreError: the store cannot be written just now.
    """
    taken = known = 0
    try:
        with tarfile.open(archive) as tar:
            members = {member.name: member for member in tar.getmembers()}
            for name, member in members.items():
                found = _MEMBER.fullmatch(name)
                if found is None or not member.isfile():
                    raise ValueError(f"{archive}: {name!r} is no file of an artifact")
                if found["kind"] == "json":
                    record, tensors = _content(tar, member), members.get(f"{name.removesuffix('json')}safetensors")
                    if tensors is None:
                        raise ValueError(f"{archive}: {name!r} is half an artifact")
                    new = _take_in(Place(root, found["stage"], found["key"]), record, _content(tar, tensors))
                    taken, known = taken + new, known + (not new)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive}: no readable tar file: {error}") from error
    return taken, known


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None, "a regular file has a content"
    return content.read()


def _take_in(place: Place, sidecar: bytes, tensors: bytes) -> bool:
    """Publish an artifact unless it is there; whether it was not."""
    record = Record.from_bytes(sidecar, place.stage, place.key)
    if hashlib.sha256(tensors).hexdigest() != record.sha256:
        raise DamagedError(f"{place.stage}/{place.key}: the tensors' checksum differs")
    make_folder(place.sidecar.parent)
    with locked(place):
        if place.is_there:
            return False
        clear(place)
        write_atomically(place.tensors, tensors)
        write_atomically(place.sidecar, sidecar)
    return True
