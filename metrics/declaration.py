"""What a metric is: one declaration says what it is called, where it is shown and how it is computed.

Everything that handles metrics (evaluation, table, figures, tracking, `metrics.cli`) reads the declarations, which are
the `Metric` objects in the modules of `metrics.catalogue`: a new module there is a new metric, with no list to edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # to render a table takes words of these, not torch
    from torch import Tensor

    from metrics.inputs import FeatureSets, Network, VideoBatch
    from metrics.options import Protocol

INTERVAL_SUFFIX = "_ci"


class Place(IntEnum):
    """Where a column is shown: there and in every place after it."""

    TERMINAL = 0
    WIDE_TERMINAL = 1
    DOCUMENT = 2
    CSV = 3


class Direction(Enum):
    """Which values are better, as a header shows it."""

    lower = "↓"
    higher = "↑"
    none = ""


class Compared(StrEnum):
    """What the videos are compared with; `fp` are the FP model's videos of the same seeds and prompts."""

    nothing = "nothing"
    prompts = "prompts"
    reference = "reference"
    fp = "fp"


class Interval(StrEnum):
    """What the 95 % interval rests on, see `metrics.intervals` and `metrics.score_intervals`.

    `videos`: the arm's videos are resampled; also pairs with reference clips, where a protocol pairs them. `pairs`: the
    arm's and the FP model's videos of one seed are resampled together. `binomial`: nothing is resampled, of a
    share or a median.
    """

    none = "none"
    videos = "videos"
    pairs = "pairs"
    binomial = "binomial"


@dataclass(frozen=True, eq=False)
class MetricValue:
    """What a metric says of one arm.

    Attributes:
        value: None where there is nothing to say.
        interval: (low, high), where the metric declares one.
        per_video: (N,), the scores that the value sums up, by their mean if nothing else is said; arms are compared by
            them. None for a property of the whole set.
        replicates: (R,), a distance of videos resampled alike for every arm of one N, see
            `metrics.intervals.paired_bootstrap_distances`: two arms' ratio has an interval by them.
        details: further numbers by their keys in metrics.json, such as the quality of a fit.
        warnings: what must be known of the value.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    per_video: Tensor | None = None
    replicates: Tensor | None = None
    details: Mapping[str, float | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is known of a metric before anything is measured.

    Attributes:
        key: in metrics.json, csv and tracking; the interval's is `<key>_ci`.
        name: in headers, e.g. "FVD-FP".
        title: over a panel of a figure, where there is room for more words than in the name.
        unit: e.g. "dB".
        direction: which values are better.
        decimals: digits after the point; None shows three significant digits.
        place: of its column; None: no column. One on every terminal has a panel in the run's figures, and one that also
            compares with FP has curves over bits.
        order: of the columns, smallest first.
        compares_with: what it compares the videos with; to compare with `fp` says nothing of FP itself.
        interval: what its interval rests on; `none`: it has none.
        limits: when the interval holds its value in other than 95 % of all runs, in words for the notes below a table.
        log_scale: whether figures show it on a logarithmic axis.
        ranks: whether the table's rank is by this metric.
    """

    key: str
    name: str
    title: str = ""
    unit: str = ""
    direction: Direction = Direction.none
    decimals: int | None = None
    place: Place | None = Place.DOCUMENT
    order: int = 1000
    compares_with: Compared = Compared.nothing
    interval: Interval = Interval.none
    limits: str = ""
    log_scale: bool = False
    ranks: bool = False

    def __post_init__(self) -> None:
        if not self.key.isidentifier() or self.key.endswith(INTERVAL_SUFFIX):
            raise ValueError(f"metric key={self.key}: must be an identifier that does not end in {INTERVAL_SUFFIX}")
        if self.ranks and self.direction is Direction.none:
            raise ValueError(f"metric {self.key}: ranks=True needs a direction, lower or higher")

    @property
    def interval_key(self) -> str:
        """Of the interval, in metrics.json."""
        return f"{self.key}{INTERVAL_SUFFIX}"

    @property
    def header(self) -> str:
        """Of its column, e.g. "PSNR dB ↑"."""
        return " ".join(filter(None, (self.name, self.unit, self.direction.value)))

    @property
    def panel_title(self) -> str:
        """Over its panel in a figure, e.g. "PSNR to the FP videos, dB ↑"."""
        words = (", ".join(filter(None, (self.title or self.name, self.unit))), self.direction.value)
        return " ".join(filter(None, (*words, "(log)" if self.log_scale else "")))

    @property
    def why_fp_has_none(self) -> str | None:
        """Why there is no value for the FP model; None where there is one."""
        return "fp is what these columns compare with" if self.compares_with is Compared.fp else None

    def is_defined(self, protocol: Protocol, is_fp: bool) -> bool:
        """Whether an arm has a value under the protocol; `is_fp`: the arm is the FP model."""
        return not (is_fp and self.why_fp_has_none)

    def flat(self, value: float | None, interval: tuple[float, float] | None) -> dict[str, Any]:
        """A value and its interval as entries of metrics.json."""
        values: dict[str, Any] = {self.key: value}
        if self.interval is not Interval.none:
            values[self.interval_key] = None if interval is None else list(interval)
        return values


@dataclass(frozen=True, kw_only=True)
class VideoMetric(Metric):
    """The mean of a score that each video has.

    Attributes:
        compute: scores (B,) of a batch of videos; its order is kept, and its size must not matter.
        networks: what it looks through.
    """

    compute: Callable[[VideoBatch], Tensor]
    networks: tuple[Network[Any], ...] = ()
    interval: Interval = Interval.videos

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compares_with is Compared.reference:
            raise ValueError(f"metric {self.key}: a video's score compares with nothing, prompts or fp, not reference")

    def is_defined(self, protocol: Protocol, is_fp: bool) -> bool:
        named = all(network.weights(protocol) is not None for network in self.networks)
        return named and super().is_defined(protocol, is_fp)


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A property of a whole set of videos.

    Attributes:
        compute: the value, with the interval that is declared, from features.
    """

    compute: Callable[[FeatureSets], MetricValue]
