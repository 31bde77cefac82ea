"""Content-addressed artifacts: each is written once, atomically, under the hash of what produced it.

An artifact is a safetensors file with a JSON sidecar that holds its inputs, its metadata and the SHA-256 of
the tensors. The sidecar is written last, so an artifact exists exactly when its sidecar does. Of artifacts that differ
in nothing but the code that made them, a small file names the latest: with it the store can say why it computes anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from safetensors.torch import load, save

from qvd.store.digest import enum_value, fingerprint
from qvd.store.files import write_atomically
from qvd.store.memory import PeakMemory
from qvd.store.source import changed_modules, code_digest, module_digests

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


@dataclass(frozen=True)
class _Recipe:
    """What determines an artifact; the names as in `Store.fetch`."""

    stage: str
    inputs: Mapping[str, Any]
    code: tuple[str, ...]

    @property
    def complete_inputs(self) -> Mapping[str, Any]:
        return {**self.inputs, "code": code_digest(*self.code)} if self.code else self.inputs

    @property
    def key(self) -> str:
        return fingerprint({"stage": self.stage, "inputs": self.complete_inputs})

    @property
    def key_without_code(self) -> str:
        return fingerprint({"stage": self.stage, "inputs": self.inputs})


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
        read_only: compute nothing, but raise `NotStoredError` for what is not there.
    """

    def __init__(self, root: Path | str, read_only: bool = False) -> None:
        self.root, self.read_only = Path(root), read_only
        self._verified: set[Path] = set()
        self._explained: set[str] = set()
        self._logged: set[str] = set()

    def fetch(
        self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Result], code: Sequence[str] = ()
    ) -> Artifact:
        """The artifact of `stage` for `inputs`, computed if it is not there.

        Args:
            stage: name of the stage, which is also the sub-folder.
            inputs: JSON-compatible description of everything that determines the result, but for the code.
            compute: makes (tensors, metadata); called at most once, under a lock.
            code: dotted names of the modules that the computation starts from; what they do is one more input.
        """
        return self._fetch(_Recipe(stage, inputs, tuple(code)), compute, self._read)

    def fetch_file(
        self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Result], code: Sequence[str] = ()
    ) -> ArtifactFile:
        """Like `fetch`, for an artifact that is not to be loaded whole; its checksum is streamed once per `Store`."""
        return self._fetch(_Recipe(stage, inputs, tuple(code)), compute, self._locate)

    def _fetch(self, recipe: _Recipe, compute: Callable[[], Result], read: Callable[[str, str], T | None]) -> T:
        stage, key = recipe.stage, recipe.key
        existing = read(stage, key)
        if existing is not None:
            self._log_found(stage, key)
            return existing
        self._explain(recipe)
        if self.read_only:
            raise NotStoredError(f"{stage} {key}")
        folder = self.root / stage
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            existing = read(stage, key)  # another process may have written it while we waited
            if existing is not None:
                self._log_found(stage, key)
            else:
                self._write(recipe, compute)
                existing = read(stage, key)
        assert existing is not None, "an artifact that was just written must be readable"
        return existing

    def _log_found(self, stage: str, key: str) -> None:
        """Once for each artifact: several arms read the same."""
        if key not in self._logged:
            self._logged.add(key)
            log.info("%s %s: from the store", stage, key[:KEY_LETTERS])

    def contains(self, stage: str, inputs: Mapping[str, Any], code: Sequence[str] = ()) -> bool:
        """Whether the artifact has been written (its checksum is verified only when it is read)."""
        return self._sidecar(stage, _Recipe(stage, inputs, tuple(code)).key).exists()

    def work_folder(self, stage: str, inputs: Mapping[str, Any], code: Sequence[str] = ()) -> Path:
        """Where the computation of an artifact may keep unfinished work; deleted when the artifact is written."""
        return self._sidecar(stage, _Recipe(stage, inputs, tuple(code)).key).with_suffix(".work")

    def _sidecar(self, stage: str, key: str) -> Path:
        return self.root / stage / f"{key}.json"

    def _latest(self, recipe: _Recipe) -> Path:
        """The file with the key of what was last made of the same inputs, by whatever code."""
        return self.root / recipe.stage / f"{recipe.key_without_code}.latest"

    def _explain(self, recipe: _Recipe) -> None:
        """Say, once for each stage, which modules have changed since the artifact was last made."""
        if not recipe.code or recipe.stage in self._explained:
            return
        try:
            sidecar = self._sidecar(recipe.stage, self._latest(recipe).read_text())
            changed = changed_modules(json.loads(sidecar.read_bytes())["code"], *recipe.code)
        except (OSError, ValueError, KeyError):  # never made, or deleted since
            return
        if changed:
            self._explained.add(recipe.stage)
            more = len(changed) - MOST_NAMED
            names = ", ".join(changed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
            message = f"{recipe.stage}: to be computed anew after changes in {names}"
            warnings.warn(message, CodeChangedWarning, stacklevel=4)

    def _write(self, recipe: _Recipe, compute: Callable[[], Result]) -> None:
        memory, started = PeakMemory(), time.perf_counter()
        tensors, metadata = compute()
        seconds = time.perf_counter() - started
        # Cloned, because safetensors refuses tensors that share memory, as the shifts behind one norm do.
        data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
        sidecar = self._sidecar(recipe.stage, recipe.key)
        record = {
            "stage": recipe.stage,
            "inputs": recipe.complete_inputs,
            "code": module_digests(*recipe.code) if recipe.code else {},
            "metadata": metadata,
            "sha256": hashlib.sha256(data).hexdigest(),
            "seconds": seconds,
            "peak_memory_bytes": memory.read(),
        }
        write_atomically(sidecar.with_suffix(".safetensors"), data)
        write_atomically(sidecar, json.dumps(record, indent=1, default=enum_value).encode())
        if recipe.code:
            write_atomically(self._latest(recipe), recipe.key.encode())
        shutil.rmtree(sidecar.with_suffix(".work"), ignore_errors=True)
        self._logged.add(recipe.key)
        log.info("%s %s: computed in %.1f s", recipe.stage, recipe.key[:KEY_LETTERS], seconds)

    def _read(self, stage: str, key: str) -> Artifact | None:
        sidecar = self._sidecar(stage, key)
        if not sidecar.exists():
            return None
        try:
            record = json.loads(sidecar.read_bytes())
            data = sidecar.with_suffix(".safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != record["sha256"]:
                raise ValueError("checksum differs")
            return Artifact(key, load(data), record["metadata"], record["seconds"], record["peak_memory_bytes"])
        except (OSError, ValueError, KeyError) as error:
            self._set_aside(sidecar, error)
            return None

    def _locate(self, stage: str, key: str) -> ArtifactFile | None:
        sidecar = self._sidecar(stage, key)
        if not sidecar.exists():
            return None
        path = sidecar.with_suffix(".safetensors")
        try:
            record = json.loads(sidecar.read_bytes())
            if path not in self._verified:
                with path.open("rb") as handle:
                    if hashlib.file_digest(handle, "sha256").hexdigest() != record["sha256"]:
                        raise ValueError("checksum differs")
                self._verified.add(path)
            return ArtifactFile(key, path, record["metadata"], record["seconds"], record["peak_memory_bytes"])
        except (OSError, ValueError, KeyError) as error:
            self._set_aside(sidecar, error)
            return None

    def _set_aside(self, sidecar: Path, error: Exception) -> None:
        for path in (sidecar, sidecar.with_suffix(".safetensors")):
            if path.exists():
                os.replace(path, path.with_name(f"{path.name}.damaged"))
        warnings.warn(
            f"damaged store file {sidecar.with_suffix('')} ({error}): set aside as *.damaged and recomputed",
            stacklevel=4,
        )
