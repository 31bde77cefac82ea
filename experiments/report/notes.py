"""What stands below the results table: under which conditions it was measured, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.comparison import Setting
from experiments.report.comparison_tables import rank_note
from experiments.result import ArmMetrics
from metrics.declaration import Compared, Metric, Place
from metrics.registry import declared_metrics


def shown_metrics() -> list[Metric]:
    """Those that have a column."""
    return [metric for metric in declared_metrics() if metric.place is not None]


def describe_model(arm: ArmMetrics) -> str:
    """Its name, and what must be known of its weights."""
    name = arm.conditions.model
    if arm.conditions.random_weights:
        return f"{name} (random weights: memory and time, no quality)"
    return f"{name} (embedded tiny model)" if arm.conditions.embedded else name


def protocol_notes(arms: Sequence[ArmMetrics]) -> list[str]:
    """What the numbers were measured with: one note if all arms share it, else one per group of arms."""
    groups: dict[str, list[str]] = {}
    for arm in arms:
        on, side, extractor = arm.conditions, arm.conditions.resolution, arm.conditions.extractor
        note = (
            f"model {describe_model(arm)}; protocol {on.protocol}; N = {on.n_videos} videos of {on.num_frames} "
            f"frames at {side}×{side} px; reference {on.reference}; FVD extractor {extractor.name} "
            f"(sha256 {extractor.sha256[:12]})"
        )
        groups.setdefault(note, []).append(arm.name)
    if len(groups) == 1:
        return [f"Measured with: {next(iter(groups))}."]
    return [f"Measured with ({', '.join(names)}): {note}." for note, names in groups.items()]


def prompt_notes(arms: Sequence[ArmMetrics]) -> list[str]:
    """Which prompts were cut, once for all arms of a run."""
    return list(dict.fromkeys(f"{cut.note}." for arm in arms for cut in arm.prompts_cut))


def reading_note() -> str:
    """What headers and brackets mean."""
    *names, last = (metric.name for metric in shown_metrics() if metric.compares_with is Compared.fp)
    return (
        "↓ lower is better, ↑ higher is better; [low, high] is the 95 % interval over videos, of a mean by the "
        "studentized bootstrap, which at N = 128 holds it in 95 % of runs, in 93 % where scores have heavy tails; "
        f"{', '.join(names)} and {last} compare with the FP model's videos of the same seeds and prompts; MB is the "
        "denoiser as stored, MB theor. at its bits; TBOPs are 10¹² bit operations (MACs · weight bits · activation "
        "bits) per denoiser call and batch entry; Calib. is capturing, observing and quantizing."
    )


def rank_notes(settings: Sequence[Setting]) -> list[str]:
    """By what test arms are ranked, and what could not be tested."""
    ranked = any(setting.group(arm) is not None for setting in settings for arm in setting.arms.values())
    untested = [f"Not compared: {line}." for setting in settings for line in setting.untested if len(setting.arms) > 1]
    return [*([f"{rank_note()}."] if ranked else []), *dict.fromkeys(untested)]


def limit_notes() -> list[str]:
    """What brackets of single columns mean beyond that, and in which runs they hold their value more or less often."""
    limits: dict[str, list[str]] = {}
    for metric in shown_metrics():
        if metric.limits and metric.place is not Place.CSV:
            limits.setdefault(metric.limits, []).append(metric.name)
    return [f"The interval of {' and '.join(names)} {words}." for words, names in limits.items()]
