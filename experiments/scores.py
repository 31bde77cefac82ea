"""What is known of an arm video by video: the scores that paired comparisons are made of, and their file in a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from metrics.declaration import MetricValue
from metrics.registry import declared_metrics

FILE = "scores.csv"
_RESAMPLED = "_replicates"
_WORDS = ("arm", "video", "prompt")


@dataclass(frozen=True, eq=False)
class Scores:
    """By the declared metric's key.

    Attributes:
        per_video: (N,), in sample order.
        replicates: (R,), of a distance whose videos were resampled, see `metrics.declaration.MetricValue`.
    """

    per_video: Mapping[str, Tensor] = field(default_factory=dict)
    replicates: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, MetricValue]) -> Scores:
        """Those that the metrics of one arm give."""
        return cls(
            {key: value.per_video for key, value in values.items() if value.per_video is not None},
            {key: value.replicates for key, value in values.items() if value.replicates is not None},
        )

    def to_tensors(self) -> dict[str, Tensor]:
        """As an artifact holds them."""
        return {**self.per_video, **{f"{key}{_RESAMPLED}": tensor for key, tensor in self.replicates.items()}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Scores:
        """The inverse of `to_tensors`."""
        resampled = {key for key in tensors if key.endswith(_RESAMPLED)}
        return cls(
            {key: tensor for key, tensor in tensors.items() if key not in resampled},
            {key.removesuffix(_RESAMPLED): tensors[key] for key in resampled},
        )


def write_scores(path: Path, arms: Mapping[str, tuple[Sequence[str], Scores]]) -> None:
    """One line per arm and video, at full precision; a score that an arm has not is empty.

    Args:
        arms: name → its prompts, in sample order, and its scores.
    """
    known = {key for _, scores in arms.values() for key in scores.per_video}
    keys = [metric.key for metric in declared_metrics() if metric.key in known]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_WORDS, *keys])
        for arm, (prompts, scores) in arms.items():
            columns = {key: values.tolist() for key, values in scores.per_video.items()}
            for video, prompt in enumerate(prompts):
                of_video = (columns[key][video] if key in columns else "" for key in keys)
                writer.writerow([arm, video, prompt, *of_video])


def read_scores(path: Path) -> dict[str, Scores]:
    """Arm → its scores.

    Raises:
        ValueError: a file that `write_scores` did not write.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        keys = [key for key in reader.fieldnames or () if key not in _WORDS]
        columns: dict[str, dict[str, list[float]]] = {}
        try:
            for row in reader:
                of_arm = columns.setdefault(row["arm"], {})
                for key in keys:
                    if row[key]:
                        of_arm.setdefault(key, []).append(float(row[key]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: line {reader.line_num} is none of a run's scores: {error}") from None
    return {
        arm: Scores({key: torch.tensor(values, dtype=torch.float64) for key, values in of_arm.items()})
        for arm, of_arm in columns.items()
    }
