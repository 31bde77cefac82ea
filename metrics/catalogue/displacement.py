"""How far the arm's videos have moved from the FP model's of the same seeds: FVD-FP's twin without its tail."""

from collections.abc import Callable

from torch import Tensor

from metrics.declaration import Compared, Direction, Interval, MetricValue, SetMetric
from metrics.displacement import TIPPED as THRESHOLD
from metrics.displacement import UndefinedError, displacement
from metrics.inputs import FeatureSets
from metrics.score_intervals import median_interval, share_interval


def _of_displacement(summary: Callable[[Tensor], MetricValue]) -> Callable[[FeatureSets], MetricValue]:
    def compute(sets: FeatureSets) -> MetricValue:
        try:
            return summary(displacement(sets.features, sets.fp_features))
        except UndefinedError as error:
            return MetricValue(None, warnings=(f"no displacement: {error}",))

    return compute


def _median(moved: Tensor) -> MetricValue:
    return MetricValue(moved.quantile(0.5).item(), median_interval(moved), moved)


def _tipped(moved: Tensor) -> MetricValue:
    tipped = (moved >= THRESHOLD).double()
    share = tipped.mean().item()
    return MetricValue(share, share_interval(share, len(tipped)), tipped)


DISPLACEMENT = SetMetric(
    key="displacement_fp",
    name="Moved",
    title="Displacement from the FP videos (median)",
    direction=Direction.lower,
    order=34,
    compares_with=Compared.fp,
    interval=Interval.binomial,
    log_scale=True,
    ranks=True,
    compute=_of_displacement(_median),
)

TIPPED = SetMetric(
    key="tipped_fp",
    name="Tipped",
    title="Share of videos that tipped",
    direction=Direction.lower,
    decimals=3,
    order=36,
    compares_with=Compared.fp,
    interval=Interval.binomial,
    compute=_of_displacement(_tipped),
)
