"""Paired comparisons as tables: who is better on how many videos, for people; every pair with its numbers, as csv."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from experiments.comparison import LEVEL, Pair, Setting, compared_metrics, comparisons_document
from experiments.report.tabular import Cell, Column, Table, to_csv, to_markdown
from experiments.result import ArmMetrics
from metrics.comparisons import Comparison
from metrics.declaration import Metric, Place
from metrics.registry import ranking_metric

BETTER, WORSE, UNDECIDED = "▲", "▼", "·"


def comparison_tables(settings: Sequence[Setting]) -> list[Table]:
    """A win/loss matrix for every metric and bits, the ranking metric's first, then the ratios of distances."""
    tables = []
    for setting in settings:
        for metric in _ordered(setting.tested):
            tables += [_matrix(setting, metric, arms) for arms in leagues(setting, metric)]
        for metric in _ordered(setting.ratios):
            tables.append(_ratios(setting, metric))
    return tables


def write_comparisons(folder: Path, settings: Sequence[Setting]) -> None:
    """Write comparisons.md, comparisons.csv and comparisons.json."""
    (folder / "comparisons.md").write_text(comparisons_markdown(settings))
    (folder / "comparisons.csv").write_text(comparisons_csv(settings))
    (folder / "comparisons.json").write_text(json.dumps(comparisons_document(settings), indent=2) + "\n")


def comparisons_markdown(settings: Sequence[Setting]) -> str:
    """comparisons.md: the matrices, how to read them, and what could not be compared."""
    tables = comparison_tables(settings)
    lines = ["# Paired comparisons", "", *(f"- {note}" for note in reading_notes(settings)), ""]
    return "\n".join([*lines, *map(to_markdown, tables)])


def comparisons_csv(settings: Sequence[Setting]) -> str:
    """comparisons.csv: each unordered pair of arms once for every metric, A before B as in the results' table."""
    words = ("setting", "metric", "a", "b")
    numbers = ("n_videos", "difference", "wins", "ties", "losses", "sign_p", "wilcoxon_p", "p", "improvement", "ratio")
    columns = [Column(key, key, numeric=False) for key in words] + [Column(key, key) for key in numbers]
    rows = []
    for setting in settings:
        n_videos = next(iter(setting.arms.values())).conditions.n_videos
        for key, found in setting.tested.items():
            for a, b in combinations(setting.arms, 2):
                if (a, b) in found:
                    rows.append([*map(Cell, (setting.name, key, a, b)), Cell(n_videos), *_numbers(found[a, b])])
        for key, ratios in setting.ratios.items():
            for (a, b), ratio in ratios.items():
                blank = [Cell(None)] * 5
                cells = [*blank, Cell(None), Cell(ratio.p), Cell(None), Cell(ratio.ratio, ratio.interval)]
                rows.append([*map(Cell, (setting.name, key, a, b)), Cell(n_videos), *cells])
    return to_csv(Table("Paired comparisons", columns, rows))


def reading_notes(settings: Sequence[Setting]) -> list[str]:
    """What the signs mean, by what test, and what has none."""
    read = (
        f"{BETTER} the row's arm is better than the column's, {WORSE} worse, {UNDECIDED} not decided at {LEVEL:.0%}, "
        "by the sign test and Wilcoxon's signed-rank test over the same seeds and prompts, the larger p of both "
        "Holm-corrected for all pairs of the metric; wins:losses are videos"
    )
    untested = [": ".join(filter(None, (s.name, line))) for s in settings for line in s.untested]
    return [*([f"{read}."] if any(s.tested for s in settings) else []), *(f"{line}." for line in untested)]


def rank_note() -> str:
    """By what test arms of the results' table share a rank."""
    metric = ranking_metric()
    return (
        f"Rank is 1 + the number of arms of the same bits and N that are better by {metric.name} on the same seeds and "
        f"prompts (sign and signed-rank test, Holm-corrected, {LEVEL:.0%}), so arms that the data cannot tell apart "
        "share one"
    )


def leagues(setting: Setting, metric: Metric) -> Iterator[list[ArmMetrics]]:
    """Arms of one bit width, FP above them where it has the metric, as far as there are two to compare."""
    compared = {a for a, _ in setting.tested[metric.key]}
    arms = [arm for arm in setting.arms.values() if arm.name in compared]
    for bits in dict.fromkeys(arm.bits for arm in arms if arm.bits != "fp"):
        of_bits = [arm for arm in arms if arm.bits in ("fp", bits)]
        if len(of_bits) > 1:
            yield of_bits


def verdict(found: Mapping[Pair, Comparison], a: str, b: str) -> str:
    """Whether A is better than B, worse, or neither."""
    if found[a, b].decides(LEVEL):
        return BETTER
    return WORSE if found[b, a].decides(LEVEL) else UNDECIDED


def _ordered(found: Mapping[str, object]) -> list[Metric]:
    metrics = [metric for metric in compared_metrics() if metric.key in found]
    return sorted(metrics, key=lambda metric: not metric.ranks)


def _matrix(setting: Setting, metric: Metric, arms: Sequence[ArmMetrics]) -> Table:
    found, bits = setting.tested[metric.key], arms[-1].bits

    def cell(a: ArmMetrics, b: ArmMetrics) -> Cell:
        if a is b:
            return Cell("")
        pair = found[a.name, b.name]
        return Cell(f"{verdict(found, a.name, b.name)} {pair.wins}:{pair.losses}")

    columns = [Column("arm", "better ▲ than", numeric=False)]
    columns += [Column(arm.name, arm.variant) for arm in arms]
    rows = [[Cell(a.variant), *(cell(a, b) for b in arms)] for a in arms]
    title = ", ".join(filter(None, (setting.name, bits, f"N = {arms[0].conditions.n_videos}")))
    return Table(f"{metric.header} ({title})", columns, rows)


def _ratios(setting: Setting, metric: Metric) -> Table:
    """Of the arms at one bit width each; csv has the others."""
    header = f"{metric.name} of A ÷ of B"
    columns = [Column("a", "A", numeric=False), Column("b", "B", numeric=False)]
    columns += [Column("ratio", header), Column("p", "p", place=Place.TERMINAL)]
    rows = [
        [Cell(a), Cell(b), Cell(ratio.ratio, ratio.interval), Cell(ratio.p)]
        for (a, b), ratio in setting.ratios[metric.key].items()
        if setting.arms[a].bits == setting.arms[b].bits
    ]
    notes = ["the same videos resampled for both arms; p uncorrected; of the distances at this N."]
    return Table(", ".join(filter(None, (header, setting.name))), columns, rows, notes)


def _numbers(pair: Comparison) -> list[Cell]:
    return [
        Cell(pair.difference, pair.interval),
        *map(Cell, (pair.wins, pair.ties, pair.losses, pair.sign_p, pair.wilcoxon_p, pair.p)),
        Cell(pair.improvement, pair.improvement_interval),
        Cell(None),
    ]
