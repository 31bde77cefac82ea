"""FVD to the reference, extrapolated to infinitely many videos, and to the FP model's videos."""

from metrics.declaration import Compared, Direction, Interval, MetricValue, Place, SetMetric
from metrics.frechet import frechet_distance, frechet_infinity
from metrics.fvd import bias_warning, check_enough_videos, fvd_interval, infinity_warning, same_warning
from metrics.inputs import FeatureSets
from metrics.intervals import infinity_interval, log_interval, paired_bootstrap_distances


def _to_reference(sets: FeatureSets) -> MetricValue:
    pair = sets.features, sets.reference
    check_enough_videos(*map(len, pair))
    return MetricValue(
        frechet_distance(*pair),
        fvd_interval(*pair, paired=sets.paired),
        warnings=bias_warning(*pair),
    )


def _at_infinity(sets: FeatureSets) -> MetricValue:
    pair = sets.features, sets.reference
    check_enough_videos(*map(len, pair))
    fit = frechet_infinity(*pair, paired=sets.paired)
    return MetricValue(
        fit.value,
        infinity_interval(*pair, paired=sets.paired),
        details={"fvd_inf_r_squared": fit.r_squared},
        warnings=infinity_warning(*pair),
    )


def _to_fp(sets: FeatureSets) -> MetricValue:
    pair = sets.features, sets.fp_features
    warnings = tuple(f"fvd_fp is 0: {line}" for line in same_warning(*pair))
    distance, replicates = frechet_distance(*pair), paired_bootstrap_distances(*pair)
    return MetricValue(distance, log_interval(distance, replicates), replicates=replicates, warnings=warnings)


FVD = SetMetric(
    key="fvd",
    name="FVD",
    title="FVD to the reference",
    direction=Direction.lower,
    place=Place.TERMINAL,
    order=10,
    compares_with=Compared.reference,
    interval=Interval.videos,
    limits="is for the distance expected at this N, its bias included; where clips and prompts are not paired and "
    "features have heavy tails, it holds that in 86 % of runs",
    compute=_to_reference,
)

FVD_INFINITY = SetMetric(
    key="fvd_inf",
    name="FVD∞",
    direction=Direction.lower,
    place=Place.WIDE_TERMINAL,
    order=20,
    compares_with=Compared.reference,
    interval=Interval.videos,
    limits="holds the extrapolation's expected value in about 90 % of runs, in 80 % where rare large errors make most "
    "of the distance",
    compute=_at_infinity,
)

FVD_FP = SetMetric(
    key="fvd_fp",
    name="FVD-FP",
    title="FVD to the FP videos",
    direction=Direction.lower,
    place=Place.TERMINAL,
    order=30,
    compares_with=Compared.fp,
    interval=Interval.pairs,
    limits="is for the distance expected at this N, of which rare large errors make most, and which falls towards its "
    "limit as N grows: KVD-FP asks whether the distribution has changed, Moved and Tipped how far each video has",
    log_scale=True,
    compute=_to_fp,
)
