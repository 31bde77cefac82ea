"""The work folder of a reconstruction: what each finished unit learned, and activations on the way to the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from qvd.store.files import DamagedError, make_folder, read_bytes, sealed, unsealed, write_atomically


class UnitStore:
    """A folder whose records are written whole or not at all, so that work killed at any moment can go on after them.

    Args:
        root: the folder; made when first written to. It must belong to one set of inputs: nothing here checks them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, key: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Keep tensors and JSON values under a name."""
        # Cloned, because safetensors refuses tensors that share memory.
        separate = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        head = json.dumps({"key": key, "values": values}).encode()
        path = self._path(key)
        make_folder(path.parent)
        write_atomically(path, sealed(head + b"\n" + save(separate)))

    def read(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `write` kept under a name, or None; a record that is damaged, or another name's, is none."""
        try:
            head, _, data = unsealed(read_bytes(self._path(key))).partition(b"\n")
        except (FileNotFoundError, DamagedError):
            return None
        content = json.loads(head)
        return (load(data), content["values"]) if content["key"] == key else None

    def folder(self, name: str) -> Path:
        """A folder for larger files; they count only once a record says that they are complete."""
        return self.root / name

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.record"


@contextmanager
def work_folder(checkpoint: UnitStore | None) -> Iterator[UnitStore]:
    """`checkpoint`, or a folder that vanishes afterwards."""
    if checkpoint is not None:
        yield checkpoint
        return
    with TemporaryDirectory(prefix="reconstruction-") as folder:
        yield UnitStore(Path(folder))
