"""What a stage hands over to the next: the key and the files of what it made, to be read where it is used."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from qvd.calibration.calibration_set import CalibrationSet
from qvd.store.artifacts import ArtifactFile
from qvd.store.digest import fingerprint
from qvd.store.tensors import open_tensors


@dataclass(frozen=True)
class Staged:
    """Output of a stage that consists of several artifacts, one for each batch.

    Attributes:
        key: hash that stands for all of it in later stages' inputs.
        files: safetensors, in order.
        seconds: time that computing it took, whenever that was.
        peak_memory_bytes: highest memory use of any part.
    """

    key: str
    files: tuple[Path, ...]
    seconds: float
    peak_memory_bytes: int

    @classmethod
    def join(cls, parts: Sequence[ArtifactFile]) -> Staged:
        return cls(
            key=fingerprint([part.key for part in parts]),
            files=tuple(part.path for part in parts),
            seconds=sum(part.seconds for part in parts),
            peak_memory_bytes=max(part.peak_memory_bytes for part in parts),
        )

    @property
    def videos(self) -> StoredVideos:
        """Of the sampling stage."""
        return StoredVideos(self.files)

    def calibration_set(self, device: str) -> CalibrationSet:
        """Of the calibration stage."""
        return CalibrationSet.from_files(self.files, device)


class StoredVideos:
    """Videos in files of one batch each, in sample order: sliced and split like a uint8 (N, T, 3, H, W) tensor.

    Only what is asked for is read, so that a set of any size takes the memory of a part of it.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    @cached_property
    def _starts(self) -> list[int]:
        """The first video of each file, and last the number of all videos."""
        return list(accumulate(map(_count, self.files), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int | slice) -> Tensor:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self._read(range(chosen, chosen + 1))[0]
        if chosen.step != 1:
            raise ValueError(f"videos[::{chosen.step}]: stored videos are read in order, the step must be 1")
        return self._read(chosen)

    def split(self, size: int) -> Iterator[Tensor]:
        """All of them in order, at most `size` at a time, whatever the batches of the files."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def _read(self, chosen: range) -> Tensor:
        parts: list[Tensor] = []
        first_file = min(bisect_right(self._starts, chosen.start), len(self.files)) - 1
        end_file = max(bisect_left(self._starts, chosen.stop), first_file + 1)  # one, even for no videos
        for number in range(first_file, end_file):
            first = self._starts[number]
            with open_tensors(self.files[number]) as content:
                parts.append(content.get_slice("videos")[max(0, chosen.start - first) : chosen.stop - first])
        return torch.cat(parts)


def _count(path: Path) -> int:
    with open_tensors(path) as content:
        return content.get_slice("videos").get_shape()[0]
