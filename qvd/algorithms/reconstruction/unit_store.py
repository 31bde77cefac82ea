"""The work folder of a reconstruction: what each finished unit learned, and activations on the way to the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from qvd.store.files import write_atomically


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
        data = save(separate, {"values": json.dumps(values)})
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)

    def read(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `write` kept under a name, or None."""
        path = self._path(key)
        if not path.exists():
            return None
        with safe_open(path, "pt") as content:
            return {k: content.get_tensor(k) for k in content.keys()}, json.loads(content.metadata()["values"])  # noqa: SIM118

    def folder(self, name: str) -> Path:
        """A folder for larger files; they count only once a record says that they are complete."""
        return self.root / name

    def _path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"


@contextmanager
def work_folder(checkpoint: UnitStore | None) -> Iterator[UnitStore]:
    """`checkpoint`, or a folder that vanishes afterwards."""
    if checkpoint is not None:
        yield checkpoint
        return
    with TemporaryDirectory(prefix="reconstruction-") as folder:
        yield UnitStore(Path(folder))
