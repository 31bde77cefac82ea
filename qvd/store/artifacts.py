"""Content-addressed artifacts: each is written once, atomically, under the hash of what produced it.

An artifact is a safetensors file and its JSON sidecar (`qvd.store.records`), written in this order: it is there when
both are. What is read has been verified; what does not verify is set aside, by whoever holds the artifact's lock, and
computed anew. Of artifacts that differ in nothing but the code that made them, a small file names the latest: with it
the store can say why it computes anew. docs/reliability.md says what is promised.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from qvd.store.files import DamagedError, StoreError, make_folder, read_bytes, write_atomically
from qvd.store.memory import PeakMemory
from qvd.store.owners import sweep
from qvd.store.places import Place, clear, locked, set_aside
from qvd.store.recipes import Recipe, changed_since
from qvd.store.records import OtherFormatError, Record, read_record, verify
from qvd.store.source import module_digests

MOST_NAMED = 6  # changed modules in one warning
KEY_LETTERS = 12  # of a key in the log
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """What a stage wrote.

    Attributes:
        key: SHA-256 of the stage name and its inputs.
        tensors: named tensors; may be empty.
        metadata: JSON-compatible values.
        seconds: wall-clock time of the computation that wrote it.
        peak_memory_bytes: highest memory use during that computation.
    """

    key: str
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class ArtifactFile:
    """An artifact whose tensors stay on disk: `path` is its safetensors file, the rest as in `Artifact`."""

    key: str
    path: Path
    metadata: dict[str, Any]
    seconds: float
    peak_memory_bytes: int


Result = tuple[dict[str, "torch.Tensor"], dict[str, Any]]
T = TypeVar("T")


class CodeChangedWarning(UserWarning):
    """An artifact is there, but made by code that has changed since."""


class NotStoredError(LookupError):
    """A read-only store was asked for an artifact that has not been written."""


class Store:
    """A folder of artifacts, safe for several processes.

    Args:
        root: the folder; made when first written to.
        read_only: compute nothing and set nothing aside, but raise `NotStoredError` for what is not there.
        ledger: a text file to which a line, "stage key", is added for every artifact handed out; a run folder's keeps
            its artifacts from being cleaned away.
    """

    def __init__(self, root: Path | str, read_only: bool = False, ledger: Path | None = None) -> None:
        self.root, self.read_only, self.ledger = Path(root), read_only, ledger
        self._verified: dict[Path, tuple[int, ...]] = {}
        self._explained: set[str] = set()
        self._written: set[Place] = set()
        self._noted: set[Place] = set()
        self._swept = False

    def fetch(
        self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Result], code: Sequence[str] = ()
    ) -> Artifact:
        """The artifact of `stage` for `inputs`, computed if it is not there.

        Args:
            stage: name of the stage, which is also the sub-folder.
            inputs: JSON-compatible description of everything that determines the result, but for the code.
            compute: makes (tensors, metadata); called at most once, under a lock.
            code: dotted names of the modules that the computation starts from; what they do is one more input.

        Raises:
            StoreError: the store cannot be read or written just now, or there is no room.
        """
        return self._fetch(Recipe(stage, inputs, tuple(code)), compute, _load)

    def fetch_file(
        self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Result], code: Sequence[str] = ()
    ) -> ArtifactFile:
        """Like `fetch`, for an artifact that is not to be loaded whole; its checksum is streamed once per `Store`, and
        again when the file has changed since."""
        return self._fetch(Recipe(stage, inputs, tuple(code)), compute, self._locate)

    def contains(self, stage: str, inputs: Mapping[str, Any], code: Sequence[str] = ()) -> bool:
        """Whether the artifact has been written (its checksums are verified only when it is read)."""
        return Recipe(stage, inputs, tuple(code)).place(self.root).is_there

    def work_folder(self, stage: str, inputs: Mapping[str, Any], code: Sequence[str] = ()) -> Path:
        """Where the computation of an artifact may keep unfinished work; deleted when the artifact is written."""
        return Recipe(stage, inputs, tuple(code)).place(self.root).work

    def _fetch(self, recipe: Recipe, compute: Callable[[], Result], read: Callable[[Place], T | None]) -> T:
        place = recipe.place(self.root)
        existing = _believed(read, place)
        if existing is None:
            self._explain(recipe)
            if self.read_only:
                raise NotStoredError(f"{recipe.stage} {recipe.key}")
            existing = self._make(recipe, compute, read)
        self._note(place)
        return existing

    def _make(self, recipe: Recipe, compute: Callable[[], Result], read: Callable[[Place], T | None]) -> T:
        """The artifact, computed under its lock unless another process has written it while we waited."""
        place = recipe.place(self.root)
        make_folder(place.sidecar.parent)
        with locked(place):
            existing = _believed(read, place, repair=True)
            if existing is None:
                if not self._swept:
                    sweep(self.root)
                    self._swept = True
                self._write(recipe, compute)
                existing = _believed(read, place)
        if existing is None:
            raise StoreError(f"{place}: what was just written reads back as something else: is the disk sound?")
        return existing

    def _write(self, recipe: Recipe, compute: Callable[[], Result]) -> None:
        memory, started = PeakMemory(), time.perf_counter()
        tensors, metadata = self._computed(compute)
        seconds = time.perf_counter() - started
        # Cloned, because safetensors refuses tensors that share memory, as the shifts behind one norm do.
        data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
        place = recipe.place(self.root)
        record = Record(
            stage=recipe.stage,
            inputs=recipe.complete_inputs,
            code=module_digests(*recipe.code) if recipe.code else {},
            metadata=metadata,
            sha256=hashlib.sha256(data).hexdigest(),
            seconds=seconds,
            peak_memory_bytes=memory.read(),
            created=max(time.time(), 0.0),
        )
        clear(place)
        write_atomically(place.tensors, data)
        write_atomically(place.sidecar, record.to_bytes())
        if recipe.code:
            set_aside(recipe.latest(self.root), unless_file=True)
            write_atomically(recipe.latest(self.root), recipe.key.encode())
        shutil.rmtree(place.work, ignore_errors=True)
        self._written.add(place)
        log.info("%s %s: computed in %.1f s", place.stage, place.key[:KEY_LETTERS], seconds)

    def _computed(self, compute: Callable[[], Result]) -> Result:
        """What a computation makes; a file of the store that changed under it is named."""
        try:
            return compute()
        except (SafetensorError, FileNotFoundError) as error:
            changed = [str(path) for path, signature in self._verified.items() if _signature(path) != signature]
            if not changed:
                raise
            message = "changed or deleted while it was in use; the same command computes it anew"
            raise StoreError(f"{', '.join(changed[:MOST_NAMED])}: {message}") from error

    def _locate(self, place: Place) -> ArtifactFile | None:
        signature = _signature(place.tensors)
        known = signature is not None and self._verified.get(place.tensors) == signature
        record = read_record(place) if known else verify(place)
        if record is None or signature is None:
            return None
        self._verified[place.tensors] = signature
        return ArtifactFile(place.key, place.tensors, record.metadata, record.seconds, record.peak_memory_bytes)

    def _note(self, place: Place) -> None:
        """In log and ledger, once for each artifact: several arms read the same."""
        if place in self._noted:
            return
        self._noted.add(place)
        if place not in self._written:
            log.info("%s %s: from the store", place.stage, place.key[:KEY_LETTERS])
        if self.ledger is not None:
            with self.ledger.open("a") as ledger:
                ledger.write(f"{place.stage} {place.key}\n")

    def _explain(self, recipe: Recipe) -> None:
        """Say, once for each stage, which modules have changed since the artifact was last made."""
        if recipe.stage in self._explained:
            return
        if changed := changed_since(recipe, self.root):
            self._explained.add(recipe.stage)
            more = len(changed) - MOST_NAMED
            names = ", ".join(changed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
            message = f"{recipe.stage}: to be computed anew after changes in {names}"
            warnings.warn(message, CodeChangedWarning, stacklevel=4)


def _load(place: Place) -> Artifact | None:
    record = read_record(place)
    if record is None:
        return None
    try:
        data = read_bytes(place.tensors)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise DamagedError("the tensors' checksum differs")
        return Artifact(place.key, load(data), record.metadata, record.seconds, record.peak_memory_bytes)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        raise DamagedError(f"the tensors are none: {error}") from error


def _believed(read: Callable[[Place], T | None], place: Place, repair: bool = False) -> T | None:
    """What `read` finds and can verify; `repair`, which needs the lock: what it cannot is set aside."""
    try:
        return read(place)
    except DamagedError as error:
        if repair:
            for path in (place.sidecar, place.tensors):  # in this order, so that no new tensors meet an old sidecar
                set_aside(path)
            told = f"damaged store file {place} ({error}): set aside as *.damaged and recomputed"
            warnings.warn(told, stacklevel=6)
    except OtherFormatError as error:
        if repair:
            told = f"{place.stage}: an artifact of an earlier version cannot be verified and is computed anew ({error})"
            warnings.warn(told, stacklevel=6)
    return None


def _signature(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
