"""What one arm of an experiment leaves behind: the input of tables, figures, report and tracking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from experiments.config.run_config import arm_name


class Videos(Protocol):
    """uint8 (N, T, 3, H, W), in memory or on disk."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class ArmMetrics:
    """The numbers of one arm: a row of a table.

    Attributes:
        variant: how the experiment calls it, by default the quantizer's name.
        quantizer: name of the quantizer config, e.g. "qvd".
        bits: "fp", "w8a8", …
        metrics: what metrics.json holds: the declared metrics (see `metrics.declaration`; an interval is [low, high],
            and what the arm has no value for is None), what stands behind them (`n_videos`, `protocol`, `reference`,
            `extractor`, …) and what the arm costs (`model_bytes`, `macs`, `bops`, `seconds`, `peak_memory_bytes`).
        command: the shell command that repeats exactly this arm.
        setting: what tells the arm's run from the others of a sweep, e.g. "model.disparity=4".
    """

    variant: str
    quantizer: str
    bits: str
    metrics: dict[str, Any]
    command: str
    setting: str = ""

    @property
    def name(self) -> str:
        """Unique within a run."""
        return arm_name(self.variant, self.bits)


@dataclass(frozen=True, kw_only=True)
class ArmResult(ArmMetrics):
    """An arm with everything that pictures, report and tracking show of it.

    Attributes:
        prompts: the captions, in sample order.
        videos: in sample order.
        quantization_map: one row per quantized layer or matmul operand; empty for FP.
        histograms: activation histograms by site: {"counts": array, "low": float, "high": float}.
    """

    prompts: list[str]
    videos: Videos
    quantization_map: list[dict[str, Any]]
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)


def drawable(arms: list[ArmResult], limit: int) -> list[ArmResult]:
    """The arms that a picture shows: those of the first one's N, since another N begins with the same videos; of more
    than `limit` there is room for FP and the first ones at the last arm's bits."""
    arms = of_one_size(arms)
    if len(arms) <= limit:
        return arms
    return [arm for arm in arms if arm.bits in ("fp", arms[-1].bits)][:limit]


def of_one_size(arms: Sequence[ArmResult]) -> list[ArmResult]:
    """The arms on as many videos as the first."""
    return [arm for arm in arms if arm.metrics["n_videos"] == arms[0].metrics["n_videos"]]
