"""The calibration set: the denoiser's own inputs while the FP pipeline samples, captured once, streamed from disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from qvd.graph.trajectory import by_entry

SAMPLE_INDEX = "sample_index"  # beside the forward arguments: which sample (prompt) an entry comes from


class CalibrationSet:
    """Entries of denoiser calls, read only when they are asked for.

    An entry is one row of a call's batch; the conditional and the unconditional half of classifier-free guidance are
    two entries. An argument may hold several consecutive rows per entry (AnimateDiff's text, one row per frame).
    Floating tensors come out as float32, except arguments with one number per entry (timesteps): those, and integers,
    keep their own dtype.
    """

    def __init__(self, parts: Sequence[TensorPart | FilePart], device: str | torch.device = "cpu") -> None:
        self._parts, self.device = list(parts), torch.device(device)
        self._ends = torch.tensor([part.num_entries for part in parts]).cumsum(0)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> CalibrationSet:
        """A set in memory, on the device of its tensors: forward argument, or `SAMPLE_INDEX` → (entries, …)."""
        return cls([TensorPart(tensors)], next(iter(tensors.values())).device)

    @classmethod
    def from_files(cls, paths: Iterable[Path], device: str | torch.device = "cpu") -> CalibrationSet:
        """A set on disk: safetensors files whose tensors are forward arguments, memory-mapped at each read."""
        return cls([FilePart(path) for path in paths], device)

    def __len__(self) -> int:
        """Number of entries."""
        return int(self._ends[-1])

    def batches(self, batch_size: int) -> Batches:
        """The set in order, cut into calls of at most `batch_size` entries; each is read when it is reached."""
        return self.batches_of(range(len(self)), batch_size)

    def batches_of(self, indices: Sequence[int], batch_size: int) -> Batches:
        """The entries `indices`, in that order, cut and read in the same way."""
        return Batches(self, [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)])

    def by_timestep(self) -> dict[float, list[int]]:
        """Timestep → its entries, the largest timestep (that of the most noise) first."""
        timesteps = self._column("timestep")
        found = timesteps.unique().tolist()
        return {float(t): (timesteps == t).nonzero().flatten().tolist() for t in reversed(found)}

    def by_sample(self) -> list[list[int]]:
        """The entries of each sample (prompt), in the samples' order; where none is noted, each entry is one."""
        samples = self._column(SAMPLE_INDEX)
        return [(samples == sample).nonzero().flatten().tolist() for sample in samples.unique().tolist()]

    def folds(self, most: int) -> list[list[int]]:
        """The entries dealt out to `most` folds, or to as many as there are samples: whole samples, in turn."""
        samples = self.by_sample()
        return [sorted(chain(*samples[number::most])) for number in range(min(most, len(samples)))]

    def by_call(self, entries: Sequence[int] | None = None) -> list[list[int]]:
        """The set, or some entries, cut as the sampler of a single sample calls the denoiser: sample by sample,
        timestep by timestep, both halves of classifier-free guidance together."""
        calls: dict[tuple[float, float], list[int]] = {}
        samples, timesteps = self._column(SAMPLE_INDEX).tolist(), self._column("timestep").tolist()
        for entry in range(len(self)) if entries is None else entries:
            calls.setdefault((samples[entry], timesteps[entry]), []).append(entry)
        return list(calls.values())

    def _column(self, name: str) -> torch.Tensor:
        """(entries,) one number per entry; of what is not there, the entries' own numbers."""
        columns = [part.column(name) for part in self._parts]
        known = [column for column in columns if column is not None]
        return torch.cat(known) if len(known) == len(columns) else torch.arange(len(self))

    def take(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """One call made of the entries `indices`, in that order: forward argument → (len(indices)·rows, …)."""
        index = torch.as_tensor(indices)
        part_of = torch.bucketize(index, self._ends, right=True)
        touched = part_of.unique().tolist()
        pieces = [self._read(number, index[part_of == number]) for number in touched]
        joined = concatenate(pieces)
        as_asked = part_of.argsort(stable=True).argsort()
        return {name: self._loaded(tensor[as_asked]) for name, tensor in joined.items() if name != SAMPLE_INDEX}

    def _read(self, number: int, index: torch.Tensor) -> dict[str, torch.Tensor]:
        part = self._parts[number]
        return part.entries(index - int(self._ends[number]) + part.num_entries)

    def _loaded(self, entries: torch.Tensor) -> torch.Tensor:
        """(entries, rows, …) as the denoiser takes it."""
        rows = entries.flatten(0, 1).to(self.device)
        return rows.float() if rows.is_floating_point() and rows.ndim > 1 else rows


class Batches(Sequence):
    """Calls of given entries of a calibration set, each read anew whenever it is asked for."""

    def __init__(self, calibration: CalibrationSet, groups: Sequence[Sequence[int]]) -> None:
        self.calibration, self.groups = calibration, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: Any) -> Any:
        return self.calibration.take(self.groups[number])


class TensorPart:
    """Part of a calibration set that lies in memory."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors, self.num_entries = dict(tensors), min(len(tensor) for tensor in tensors.values())

    def entries(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Argument → (len(index), rows per entry, …)."""
        return {name: by_entry(tensor, self.num_entries)[index] for name, tensor in self.tensors.items()}

    def column(self, name: str) -> torch.Tensor | None:
        """The whole of one argument; None: it has none of that name."""
        return self.tensors[name].cpu() if name in self.tensors else None


class FilePart:
    """Part of a calibration set in one safetensors file; the file is mapped for the time of a read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with safe_open(path, "pt") as content:
            self.num_entries = min(content.get_slice(name).get_shape()[0] for name in content.keys())  # noqa: SIM118

    def entries(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Argument → (len(index), rows per entry, …); only these rows are read."""
        with safe_open(self.path, "pt") as content:
            return {n: by_entry(content.get_tensor(n), self.num_entries)[index] for n in content.keys()}  # noqa: SIM118

    def column(self, name: str) -> torch.Tensor | None:
        """The whole of one argument; None: it has none of that name."""
        with safe_open(self.path, "pt") as content:
            return content.get_tensor(name).clone() if name in content.keys() else None  # noqa: SIM118


def concatenate(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join tensors of the same names along dim 0."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
