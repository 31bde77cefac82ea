"""KVD to the reference."""

from metrics.declaration import Compared, Direction, MetricValue, Place, SetMetric
from metrics.inputs import FeatureSets
from metrics.kernel import kernel_distance


def _to_reference(sets: FeatureSets) -> MetricValue:
    return MetricValue(kernel_distance(sets.features, sets.reference).mean)


KVD = SetMetric(
    key="kvd",
    name="KVD",
    direction=Direction.lower,
    place=Place.CSV,
    order=40,
    compares_with=Compared.reference,
    compute=_to_reference,
)
