"""What determines an artifact, and why one that is there may not be what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qvd.store.digest import fingerprint
from qvd.store.files import read_bytes
from qvd.store.places import Place
from qvd.store.records import KEY, read_record
from qvd.store.source import changed_modules, code_digest


@dataclass(frozen=True)
class Recipe:
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

    def place(self, root: Path) -> Place:
        """Where the artifact lies in a store."""
        return Place(root, self.stage, self.key)

    def latest(self, root: Path) -> Path:
        """The file with the key of what was last made of the same inputs, by whatever code."""
        return root / self.stage / f"{fingerprint({'stage': self.stage, 'inputs': self.inputs})}.latest"


def changed_since(recipe: Recipe, root: Path) -> list[str]:
    """The modules, and libraries, that differ from those which made the latest artifact of the same inputs."""
    if not recipe.code:
        return []
    try:
        key = read_bytes(recipe.latest(root)).decode()
        record = read_record(Place(root, recipe.stage, key)) if KEY.fullmatch(key) else None
    except (OSError, ValueError):  # never made, deleted since, or damaged
        return []
    return [] if record is None else changed_modules(record.code, *recipe.code)
