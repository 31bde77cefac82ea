"""Content-addressed artifacts: each is written once, atomically, under the hash of what produced it.

An artifact is a safetensors file with a JSON sidecar that holds its inputs, its metadata and the SHA-256 of
the tensors. The sidecar is written last, so an artifact exists exactly when its sidecar does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qvd.memory import PeakMemory

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parent.parent


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

    def fetch(self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Result]) -> Artifact:
        """The artifact of `stage` for `inputs`, computed if it is not there.

        Args:
            stage: name of the stage, which is also the sub-folder.
            inputs: JSON-compatible description of everything that determines the result.
            compute: makes (tensors, metadata); called at most once, under a lock.
        """
        return self._fetch(stage, inputs, compute, self._read)

    def fetch_file(self, stage: str, inputs: Mapping[str, Any], compute: Callable[[], Result]) -> ArtifactFile:
        """Like `fetch`, for an artifact that is not to be loaded whole; its checksum is streamed once per `Store`."""
        return self._fetch(stage, inputs, compute, self._locate)

    def _fetch(
        self,
        stage: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], Result],
        read: Callable[[str, str], T | None],
    ) -> T:
        from filelock import FileLock

        key = fingerprint({"stage": stage, "inputs": inputs})
        existing = read(stage, key)
        if existing is not None:
            return existing
        if self.read_only:
            raise NotStoredError(f"{stage} {key}")
        folder = self.root / stage
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            existing = read(stage, key)  # another process may have written it while we waited
            if existing is None:
                self._write(stage, key, inputs, compute)
                existing = read(stage, key)
        assert existing is not None, "an artifact that was just written must be readable"
        return existing

    def contains(self, stage: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the artifact has been written (its checksum is verified only when it is read)."""
        return self._sidecar(stage, fingerprint({"stage": stage, "inputs": inputs})).exists()

    def work_folder(self, stage: str, inputs: Mapping[str, Any]) -> Path:
        """Where the computation of an artifact may keep unfinished work; deleted when the artifact is written."""
        return self._sidecar(stage, fingerprint({"stage": stage, "inputs": inputs})).with_suffix(".work")

    def _sidecar(self, stage: str, key: str) -> Path:
        return self.root / stage / f"{key}.json"

    def _write(self, stage: str, key: str, inputs: Mapping[str, Any], compute: Callable[[], Result]) -> None:
        from safetensors.torch import save

        memory, started = PeakMemory(), time.perf_counter()
        tensors, metadata = compute()
        seconds = time.perf_counter() - started
        # Cloned, because safetensors refuses tensors that share memory, as the shifts behind one norm do.
        data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
        sidecar = self._sidecar(stage, key)
        record = {
            "stage": stage,
            "inputs": inputs,
            "metadata": metadata,
            "sha256": hashlib.sha256(data).hexdigest(),
            "seconds": seconds,
            "peak_memory_bytes": memory.read(),
        }
        _write_atomically(sidecar.with_suffix(".safetensors"), data)
        _write_atomically(sidecar, json.dumps(record, indent=1, default=_enum_value).encode())
        shutil.rmtree(sidecar.with_suffix(".work"), ignore_errors=True)

    def _read(self, stage: str, key: str) -> Artifact | None:
        from safetensors.torch import load

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


def fingerprint(description: Any) -> str:
    """SHA-256 of a JSON-compatible value, independent of key order."""
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=_enum_value).encode()).hexdigest()


def _enum_value(option: Enum) -> Any:
    return option.value


def file_digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in name order."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as handle:
            total.update(path.name.encode() + hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


@lru_cache
def source_digest(*packages: str) -> str:
    """SHA-256 over the source of packages or modules of this repository and the versions of torch and diffusers.

    Part of a stage's inputs: a result made by code that has changed since is never reused.

    Args:
        packages: paths relative to the repository root, e.g. "qvd/quant" or "qvd/sampling.py".

    Raises:
        FileNotFoundError: one of them is nowhere.
    """
    found = [[ROOT / name] if name.endswith(".py") else list((ROOT / name).rglob("*.py")) for name in packages]
    for name, files in zip(packages, found, strict=True):
        if not files:  # renamed, say: its changes would be missed from then on
            raise FileNotFoundError(f"{name}: no Python source there, but the key of a result names it")
    return fingerprint([file_digest(chain.from_iterable(found)), version("torch"), version("diffusers")])


def _write_atomically(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)
