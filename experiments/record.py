"""An arm's numbers as the flat record that metrics.json holds, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields
from typing import Any

from experiments.result import (
    ArmMetrics,
    Conditions,
    Costs,
    CutPrompts,
    Estimate,
    ExtractorIdentity,
    ModelBytes,
    StepSqnr,
)
from metrics.registry import declared_metrics

_WORDS = ("variant", "quantizer", "bits", "command")
_SQNR = {"sqnr_videos": "videos", "sqnr_teacher_forced": "teacher_forced", "sqnr_free_running": "free_running"}
TIMINGS = ("seconds", "peak_memory_bytes")
"""What two computations of one arm differ in."""


def arm_record(arm: ArmMetrics) -> dict[str, Any]:
    """What metrics.json says of the arm; an interval is [low, high], under the metric's `interval_key`."""
    return {
        "variant": arm.variant,
        "quantizer": arm.quantizer,
        "bits": arm.bits,
        **measured_record(arm),
        "command": arm.command,
    }


def measured_record(arm: ArmMetrics) -> dict[str, Any]:
    """The record without the words that name the arm and repeat it."""
    return {
        **asdict(arm.conditions),
        **estimates_record(arm.estimates),
        **arm.remarks,
        **({} if arm.step_sqnr is None else {key: getattr(arm.step_sqnr, name) for key, name in _SQNR.items()}),
        **({"prompts_cut": [asdict(cut) for cut in arm.prompts_cut]} if arm.prompts_cut else {}),
        **asdict(arm.costs),
    }


def estimates_record(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Key → value and, of a metric that has intervals, interval key → [low, high] or None."""
    record: dict[str, Any] = {}
    for metric in declared_metrics():
        if metric.key in estimates:
            record |= metric.flat(estimates[metric.key].value, estimates[metric.key].interval)
    return record


def split_estimates(record: Mapping[str, Any]) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The declared metrics in a flat record, and the rest of it."""
    rest, estimates = dict(record), dict[str, Estimate]()
    for metric in declared_metrics():
        if metric.key in rest:
            interval = rest.pop(metric.interval_key, None)
            estimates[metric.key] = Estimate(rest.pop(metric.key), interval and (interval[0], interval[1]))
    return estimates, rest


def arm_from_record(record: Mapping[str, Any], setting: str = "") -> ArmMetrics:
    """The inverse of `arm_record`.

    Raises:
        KeyError: a record that is not whole.
    """
    estimates, rest = split_estimates(record)
    words = {word: rest.pop(word) for word in _WORDS}
    conditions = {field.name: _pop(rest, field) for field in fields(Conditions)}
    costs = {field.name: rest.pop(field.name) for field in fields(Costs)}
    sqnr = {name: rest.pop(key) for key, name in _SQNR.items() if key in rest}
    prompts_cut = tuple(CutPrompts(**cut) for cut in rest.pop("prompts_cut", ()))
    return ArmMetrics(
        **words,
        conditions=Conditions(**{**conditions, "extractor": ExtractorIdentity(**conditions["extractor"])}),
        costs=Costs(**{**costs, "model_bytes": ModelBytes(**costs["model_bytes"])}),
        estimates=estimates,
        step_sqnr=StepSqnr(**sqnr) if sqnr else None,
        remarks=rest,
        prompts_cut=prompts_cut,
        setting=setting,
    )


def _pop(record: dict[str, Any], field: Field[Any]) -> Any:
    """An entry that older records may lack where the field has a default."""
    return record.pop(field.name) if field.default is MISSING else record.pop(field.name, field.default)


def metrics_document(arms: Sequence[ArmMetrics]) -> dict[str, Any]:
    """What metrics.json holds: every arm by name, and a single arm's numbers at the top level as well."""
    compared = [arm for arm in arms if arm.quantizer != "fp"] or list(arms)
    alone = measured_record(compared[0]) if len(compared) == 1 else {}
    return {**alone, "arms": {arm.name: arm_record(arm) for arm in arms}}
