"""Activations of many calibration entries on disk: bfloat16, memory-mapped, read by entry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qvd.store.files import DamagedError, read_bytes, reserve, sealed, sha256_of, unsealed, write_atomically

LAYOUT = "layout"


class CachedActivations:
    """One module's arguments or outputs for `num_entries` entries: nested tuples and dicts of tensors and constants.

    Every tensor's first dimension must run over entries, each with the same number of rows (frames, pixels), as in
    diffusers' U-Nets and transformers, which fold frames and pixels into the batch entry by entry. Floating tensors are
    kept as bfloat16 and come back in their own type; what is no tensor is kept as it was in the first call.

    The files' blocks are reserved as they are made: a `StoreError` says that a disk has no room for them.
    """

    def __init__(self, folder: Path, num_entries: int, structure: Any, leaves: list[dict[str, Any]]) -> None:
        self.folder, self.num_entries, self.structure, self.leaves = folder, num_entries, structure, leaves
        folder.mkdir(parents=True, exist_ok=True)
        self._maps = [self._map(i, leaf) for i, leaf in enumerate(leaves)]

    @classmethod
    def like(cls, folder: Path, num_entries: int, example: Any, example_entries: int) -> CachedActivations:
        """An empty cache for values shaped like `example`, which holds `example_entries` entries."""
        tensors: list[Tensor] = []
        structure = _flatten(example, tensors)
        shutil.rmtree(folder, ignore_errors=True)
        return cls(folder, num_entries, structure, [_describe(tensor, example_entries) for tensor in tensors])

    @classmethod
    def open(cls, folder: Path) -> CachedActivations:
        """A cache that `seal` completed.

        Raises:
            DamagedError: a file is missing, or not what was written.
        """
        try:
            layout = json.loads(unsealed(read_bytes(folder / LAYOUT)))
            digests = [sha256_of(path) for path in _files(folder, layout["leaves"])]
        except FileNotFoundError as error:
            raise DamagedError(f"{error.filename} is missing") from error
        except DamagedError as error:
            raise DamagedError(f"{folder}: {error}") from error
        if digests != layout.pop("sha256"):
            raise DamagedError(f"{folder}: the checksum of an activation file differs")
        return cls(folder, **layout)

    def seal(self) -> None:
        """Write down the layout and the files' checksums, so that another process can open the cache.

        Raises:
            TypeError: a value that is neither a tensor, nor JSON's, nor made of such.
        """
        layout = {
            "num_entries": self.num_entries,
            "structure": self.structure,
            "leaves": self.leaves,
            "sha256": [sha256_of(path) for path in _files(self.folder, self.leaves)],
        }
        write_atomically(self.folder / LAYOUT, sealed(json.dumps(layout).encode()))

    def put(self, first: int, value: Any) -> None:
        """Keep a value for the entries from `first` on."""
        tensors: list[Tensor] = []
        _flatten(value, tensors)
        for mapped, leaf, tensor in zip(self._maps, self.leaves, tensors, strict=True):
            rows = tensor.detach().unflatten(0, (-1, leaf["shape"][0]))
            mapped[first : first + len(rows)] = rows.to(mapped.dtype)

    def blank(self, folder: Path) -> CachedActivations:
        """An empty cache for values of the same shapes and types, and as many entries."""
        shutil.rmtree(folder, ignore_errors=True)
        return CachedActivations(folder, self.num_entries, self.structure, self.leaves)

    def take(self, entries: Sequence[int], device: str | torch.device = "cpu", widen: bool = False) -> Any:
        """The value for some entries, in that order; `widen`: half-precision tensors as float32."""
        index = torch.as_tensor(entries)
        tensors = [
            mapped[index].flatten(0, 1).to(device, _widened(dtype) if widen else dtype)
            for mapped, dtype in zip(self._maps, self.dtypes, strict=True)
        ]
        return _restore(self.structure, tensors)

    @property
    def dtypes(self) -> list[torch.dtype]:
        """The tensors' own types."""
        return [getattr(torch, leaf["dtype"]) for leaf in self.leaves]

    def remove(self) -> None:
        """Delete the files."""
        self._maps = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _map(self, number: int, leaf: dict[str, Any]) -> Tensor:
        shape = (self.num_entries, *leaf["shape"])
        stored = torch.bfloat16 if leaf["dtype"].startswith(("float", "bfloat")) else getattr(torch, leaf["dtype"])
        size, path = torch.Size(shape).numel(), _files(self.folder, self.leaves)[number]
        if not path.exists():
            reserve(path, size * stored.itemsize)
        return torch.from_file(str(path), shared=True, size=size, dtype=stored).view(shape)


def _files(folder: Path, leaves: Sequence[Any]) -> list[Path]:
    return [folder / f"{number}.bin" for number in range(len(leaves))]


def _widened(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32) if dtype.is_floating_point else dtype


def _describe(tensor: Tensor, num_entries: int) -> dict[str, Any]:
    """Shape per entry (rows first) and dtype of a tensor over `num_entries` entries."""
    if tensor.dim() == 0 or len(tensor) % num_entries:
        raise ValueError(f"shape {tuple(tensor.shape)}: the first dimension is no multiple of {num_entries} entries")
    shape = [len(tensor) // num_entries, *tensor.shape[1:]]
    return {"shape": shape, "dtype": str(tensor.dtype).removeprefix("torch.")}


def _flatten(value: Any, tensors: list[Tensor]) -> Any:
    """The structure of a value, JSON-ready as far as its constants are; its tensors are appended to `tensors`."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, tuple | list):
        return [_flatten(v, tensors) for v in value]
    if type(value) is dict:
        return {"dict": {k: _flatten(v, tensors) for k, v in value.items()}}
    return {"constant": value}


def _restore(structure: Any, tensors: list[Tensor]) -> Any:
    if isinstance(structure, list):
        return tuple(_restore(s, tensors) for s in structure)
    ((what, content),) = structure.items()
    if what == "tensor":
        return tensors[content]
    return content if what == "constant" else {k: _restore(s, tensors) for k, s in content.items()}
