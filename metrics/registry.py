"""Every declared metric: the `Metric` objects in the modules of `metrics.catalogue`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from metrics import catalogue
from metrics.declaration import Compared, Metric, Place


@cache
def declared_metrics() -> tuple[Metric, ...]:
    """In the order of the table's columns.

    Raises:
        ValueError: two metrics of one key, or not exactly one that ranks the arms.
    """
    by_key: dict[str, Metric] = {}
    for metric in _declarations():
        if by_key.setdefault(metric.key, metric) is not metric:
            raise ValueError(f"metric {metric.key}: declared twice in metrics/catalogue")
    ranking = [metric.key for metric in by_key.values() if metric.ranks]
    if len(ranking) != 1:
        raise ValueError(f"metrics with ranks=True: must be one, got {', '.join(ranking) or 'none'}")
    return tuple(sorted(by_key.values(), key=lambda metric: (metric.order, metric.key)))


def metrics_of(keys: list[str]) -> list[Metric]:
    """The metrics of these keys.

    Raises:
        ValueError: there is none with one of them.
    """
    by_key = {metric.key: metric for metric in declared_metrics()}
    for key in keys:
        if key not in by_key:
            raise ValueError(f"metric {key}: allowed are {', '.join(by_key)}")
    return [by_key[key] for key in keys]


def headline_metrics() -> tuple[Metric, ...]:
    """Those that every terminal shows, which also have a panel in figures."""
    return tuple(metric for metric in declared_metrics() if metric.place is Place.TERMINAL)


def fidelity_metrics() -> tuple[Metric, ...]:
    """The headline metrics that compare with the FP model's videos, which show what quantization costs."""
    return tuple(metric for metric in headline_metrics() if metric.compares_with is Compared.fp)


def ranking_metric() -> Metric:
    """The one that the table ranks arms by."""
    return next(metric for metric in declared_metrics() if metric.ranks)


def catalogue_modules() -> tuple[str, ...]:
    """The dotted names of the modules that declare metrics."""
    return tuple(f"{catalogue.__name__}.{found.name}" for found in iter_modules(catalogue.__path__))


def _declarations() -> Iterator[Metric]:
    for module in catalogue_modules():
        for value in import_module(module).__dict__.values():
            if isinstance(value, Metric):
                yield value
