"""Which arms of a run the data can tell apart: paired tests of every two that share seed, prompts, N and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any

from experiments.result import ArmMetrics, Conditions
from metrics.comparisons import FEWEST, Comparison, DistanceComparison, compare_all, compare_replicates
from metrics.declaration import Direction, Metric
from metrics.registry import declared_metrics, ranking_metric

LEVEL = 0.05
Pair = tuple[str, str]

_WORDS = {
    "n_videos": "N",
    "prompts_digest": "prompts",
    "model_digest": "weights",
    "extractor": "FVD extractor",
    "num_frames": "frames",
    "num_inference_steps": "sampler steps",
}
_DIGESTS = ("prompts_digest", "model_digest", "extractor")  # which say nothing to a reader


@dataclass(frozen=True)
class Setting:
    """Arms that differ in nothing but how they were quantized.

    Attributes:
        name: what tells their run from the others of a sweep; empty within one run.
        arms: by name, FP among them.
        tested: metric key → every ordered pair of arms that have its scores, `p` corrected for all of that metric.
        ratios: metric key → every unordered pair of arms that have its resampled distances.
        untested: why there is no comparison where there might be one.
    """

    name: str
    arms: Mapping[str, ArmMetrics]
    tested: Mapping[str, Mapping[Pair, Comparison]]
    ratios: Mapping[str, Mapping[Pair, DistanceComparison]]
    untested: Sequence[str]

    def group(self, arm: ArmMetrics) -> int | None:
        """The arm's rank: 1 + the number of arms at its bits that are better by the ranking metric, so that those which
        the data cannot tell apart may share it; None where nothing at its bits compares with it."""
        found = self.tested.get(ranking_metric().key, {})
        rivals = [other for other in self.arms if (other, arm.name) in found and self.arms[other].bits == arm.bits]
        return 1 + sum(found[other, arm.name].decides(LEVEL) for other in rivals) if rivals else None


def compare_arms(arms: Sequence[ArmMetrics]) -> list[Setting]:
    """The comparisons within each group of arms that share everything but the quantization; other pairs have none."""
    groups: dict[tuple[str, Conditions], dict[str, ArmMetrics]] = {}
    for arm in arms:
        groups.setdefault((arm.setting, arm.conditions), {})[arm.name] = arm
    return [_compare(name, of_group) for (name, _), of_group in groups.items()]


def group_of(settings: Sequence[Setting], arm: ArmMetrics) -> int | None:
    """The arm's rank in its own setting."""
    return next((setting.group(arm) for setting in settings if setting.arms.get(arm.name) is arm), None)


def compared_metrics() -> list[Metric]:
    """The metrics by which an arm can be better."""
    return [metric for metric in declared_metrics() if metric.direction is not Direction.none]


def check_comparable(a: ArmMetrics, b: ArmMetrics) -> None:
    """Refuse two arms whose videos belong to no pairs.

    Raises:
        ValueError: names what they differ in.
    """
    differing = []
    for field in fields(Conditions):
        of_a, of_b = getattr(a.conditions, field.name), getattr(b.conditions, field.name)
        if of_a != of_b:
            word = _WORDS.get(field.name, field.name.replace("_", " "))
            differing.append(word if field.name in _DIGESTS else f"{word} ({of_a} and {of_b})")
    if differing:
        raise ValueError(
            f"{a.name} against {b.name}: no paired comparison of arms that differ in {', '.join(differing)}"
        )


def comparisons_document(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """JSON-ready: each unordered pair once, in the order of the arms."""
    return [
        {
            "setting": setting.name,
            "arms": list(setting.arms),
            "level": LEVEL,
            "paired": [
                {"metric": key, "a": a, "b": b, **asdict(found[a, b])}
                for key, found in setting.tested.items()
                for a, b in combinations(setting.arms, 2)
                if (a, b) in found
            ],
            "ratios": [
                {"metric": key, "a": a, "b": b, **asdict(ratio)}
                for key, found in setting.ratios.items()
                for (a, b), ratio in found.items()
            ],
            "untested": list(setting.untested),
        }
        for setting in settings
    ]


def _compare(name: str, arms: dict[str, ArmMetrics]) -> Setting:
    n_videos = next(iter(arms.values())).conditions.n_videos
    if len(arms) < 2 or n_videos < FEWEST:
        few = f"N = {n_videos}: a paired test at {LEVEL} needs at least {FEWEST} videos"
        return Setting(
            name, arms, {}, {}, [few] if len(arms) > 1 else [f"{next(iter(arms))}: nothing compares with it"]
        )
    tested: dict[str, Mapping[Pair, Comparison]] = {}
    ratios: dict[str, Mapping[Pair, DistanceComparison]] = {}
    untested: list[str] = []
    for metric in compared_metrics():
        scores = {arm: of.scores.per_video[metric.key] for arm, of in arms.items() if metric.key in of.scores.per_video}
        try:
            if found := compare_all(scores, metric.direction is Direction.higher):
                tested[metric.key] = found
        except ValueError as error:
            untested.append(f"{metric.name}: {error}")
        if found_ratios := _ratios(metric, arms, untested):
            ratios[metric.key] = found_ratios
    return Setting(name, arms, tested, ratios, untested)


def _ratios(metric: Metric, arms: Mapping[str, ArmMetrics], untested: list[str]) -> dict[Pair, DistanceComparison]:
    found: dict[Pair, DistanceComparison] = {}
    resampled = [
        (arm, arm.scores.replicates[metric.key]) for arm in arms.values() if metric.key in arm.scores.replicates
    ]
    for (a, of_a), (b, of_b) in combinations(resampled, 2):
        one, other = a.estimate(metric.key).value, b.estimate(metric.key).value
        assert one is not None and other is not None, "what was resampled has a value"
        try:
            found[a.name, b.name] = compare_replicates(one, other, of_a, of_b)
        except ValueError as error:
            untested.append(f"{metric.name} of {a.name} against {b.name}: {error}")
    return found
