"""The results table: one row per arm, each number with its interval, its N and its protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from experiments.comparison import Setting, group_of
from experiments.report.notes import (
    limit_notes,
    prompt_notes,
    protocol_notes,
    rank_notes,
    reading_note,
    shown_metrics,
)
from experiments.report.published import PUBLISHED
from experiments.report.tabular import MISSING, Cell, Column, Table, render_terminal, to_csv, to_markdown
from experiments.result import ArmMetrics, FailedJob
from metrics.declaration import Metric, Place

__all__ = ["Table", "build_table", "published_table", "render_terminal", "to_csv", "to_markdown"]

_MEGABYTE = 1e6
_TERA = 1e12
_CALIBRATION_STAGES = ("calibration", "ranges", "quantization")

Filled = tuple[Column, Callable[[ArmMetrics], Cell]]


def build_table(
    arms: Sequence[ArmMetrics],
    title: str = "Results",
    failures: Sequence[FailedJob] = (),
    settings: Sequence[Setting] = (),
) -> Table:
    """One row per arm, in the given order, then one per failed job; the published values are the appendix.

    `settings` are the arms' comparisons, from which their ranks come; without them there are none.

    Raises:
        ValueError: for no rows.
    """
    if not arms and not failures:
        raise ValueError("a table needs at least one arm")
    filled = [*_setting_columns([*arms, *failures]), *_columns(), *_rank_columns(arms, settings), *_stage_columns(arms)]
    rows = [[fill(arm) for _, fill in filled] for arm in arms]
    columns = [column for column, _ in filled]
    if failures:
        columns.append(Column("error", "Why it failed", numeric=False))
        rows = [[*row, Cell("")] for row in rows] + [_failed_row(failed, columns) for failed in failures]
    return Table(
        title=title,
        columns=columns,
        rows=rows,
        notes=[
            *protocol_notes(arms),
            *_missing_notes(arms),
            *prompt_notes(arms),
            reading_note(),
            *limit_notes(),
            *rank_notes(settings),
        ],
        appendix=published_table(embedded=any(arm.conditions.embedded for arm in arms)),
    )


def _failed_row(failed: FailedJob, columns: Sequence[Column]) -> list[Cell]:
    known = {"setting": failed.setting, "arm": failed.name, **asdict(failed)}
    return [Cell(known.get(column.key)) for column in columns]


def metric_column(key: str) -> Filled:
    """A numeric column of the table and what fills it.

    Raises:
        ValueError: there is none with this key.
    """
    numeric = {column.key: (column, fill) for column, fill in _columns() if column.numeric}
    if key not in numeric:
        raise ValueError(f"metric {key}: allowed are {', '.join(numeric)}")
    return numeric[key]


def published_table(embedded: bool = True) -> Table:
    """The published values; `embedded` says that they stand beside results of the embedded tiny model."""
    ours = "different model and protocol: not comparable with tiny" if embedded else "compare protocols before numbers"
    headers = {
        "model": ("Model", Place.TERMINAL),
        "dataset": ("Dataset", Place.TERMINAL),
        "metric": ("Metric", Place.TERMINAL),
        "value": ("Value", Place.TERMINAL),
        "setting": ("Setting", Place.DOCUMENT),
        "source": ("Source", Place.TERMINAL),
    }
    columns = [Column(key, header, place=place, numeric=key == "value") for key, (header, place) in headers.items()]
    rows = [
        [Cell(getattr(row, key) + ("*" if row.secondary and key == "value" else "")) for key in headers]
        for row in PUBLISHED
    ]
    notes = ["*: not read in the model's own paper."]
    return Table(title=f"Published values ({ours})", columns=columns, rows=rows, notes=notes)


def _columns() -> list[Filled]:
    """The columns that every table has: the arm, the declared metrics, what the arm costs."""
    return [*_ARM_COLUMNS, *(_metric_column(metric) for metric in shown_metrics()), *_COST_COLUMNS]


def _metric_column(metric: Metric) -> Filled:
    def fill(arm: ArmMetrics) -> Cell:
        estimate = arm.estimate(metric.key)
        return Cell(estimate.value, estimate.interval)

    assert metric.place is not None, "a metric without a place has no column"
    return Column(metric.key, metric.header, decimals=metric.decimals, place=metric.place), fill


def _value(read: Callable[[ArmMetrics], float | str | None]) -> Callable[[ArmMetrics], Cell]:
    return lambda arm: Cell(read(arm))


def _stage(group: str, stage: str) -> Callable[[ArmMetrics], Cell]:
    return _value(lambda arm: getattr(arm.costs, group).get(stage))


def _of_calibration(group: str, reduce: Callable[[list[float]], float], unit: float) -> Callable[[ArmMetrics], Cell]:
    """What making the quantized model cost, all its stages together; empty for FP."""

    def fill(arm: ArmMetrics) -> Cell:
        by_stage = getattr(arm.costs, group)
        costs = [by_stage[stage] for stage in _CALIBRATION_STAGES if stage in by_stage]
        return Cell(reduce(costs) / unit if costs else "")

    return fill


def _setting_columns(rows: Sequence[ArmMetrics | FailedJob]) -> list[Filled]:
    """What tells the runs of a sweep apart; none within one run."""
    if not any(row.setting for row in rows):
        return []
    return [(Column("setting", "Setting", numeric=False), _value(lambda arm: arm.setting))]


def _rank_columns(arms: Sequence[ArmMetrics], settings: Sequence[Setting]) -> list[Filled]:
    """Each arm's group among those of its setting, bits and N; no column where nothing shares its bits."""
    if all(group_of(settings, arm) is None for arm in arms):
        return []
    return [(Column("rank", "Rank", decimals=0, place=Place.DOCUMENT), lambda arm: Cell(group_of(settings, arm) or ""))]


def _stage_columns(arms: Sequence[ArmMetrics]) -> list[Filled]:
    """Seconds and peak bytes of each stage that any arm ran; csv only."""
    columns = []
    for group in ("seconds", "peak_memory_bytes"):
        for stage in dict.fromkeys(stage for arm in arms for stage in getattr(arm.costs, group)):
            column = Column(f"{group}_{stage}", f"{group} {stage}", place=Place.CSV)
            columns.append((column, _stage(group, stage)))
    return columns


def _missing_notes(arms: Sequence[ArmMetrics]) -> list[str]:
    """Why each n/a is one: the reason that the arm itself gives, else what follows from what it is."""
    why_fp_has_none = {metric.key: metric.why_fp_has_none for metric in shown_metrics()}
    reasons: dict[str, list[str]] = {}
    for arm in arms:
        for column, fill in _columns():
            if fill(arm).value is not None:
                continue
            reason = arm.remarks.get("missing", {}).get(column.key)
            if reason is None and arm.quantizer == "fp":
                reason = why_fp_has_none.get(column.key)
            header = column.header.rstrip(" ↓↑")
            names = reasons.setdefault(reason or f"not computed for {arm.name}", [])
            if header not in names:
                names.append(header)
    return [f"{MISSING}: {', '.join(headers)}: {reason}." for reason, headers in reasons.items()]


_ARM_COLUMNS: list[Filled] = [
    (Column("arm", "Arm", numeric=False), _value(lambda arm: arm.name)),
    (Column("model", "Model", place=Place.CSV, numeric=False), _value(lambda arm: arm.conditions.model)),
    (
        Column("embedded", "Embedded", place=Place.CSV, numeric=False),
        _value(lambda arm: str(arm.conditions.embedded)),
    ),
    (Column("quantizer", "Quantizer", place=Place.CSV, numeric=False), _value(lambda arm: arm.quantizer)),
    (Column("bits", "Bits", place=Place.CSV, numeric=False), _value(lambda arm: arm.bits)),
    (
        Column("protocol", "Protocol", place=Place.DOCUMENT, numeric=False),
        _value(lambda arm: arm.conditions.protocol),
    ),
    (Column("n_videos", "N", decimals=0), _value(lambda arm: arm.conditions.n_videos)),
]

_COST_COLUMNS: list[Filled] = [
    (Column("stored_mb", "MB", decimals=2), _value(lambda arm: arm.costs.model_bytes.stored / _MEGABYTE)),
    (
        Column("theoretical_mb", "MB theor.", decimals=2, place=Place.WIDE_TERMINAL),
        _value(lambda arm: arm.costs.model_bytes.theoretical / _MEGABYTE),
    ),
    (Column("tbops", "TBOPs", place=Place.DOCUMENT), _value(lambda arm: arm.costs.bops / _TERA)),
    (Column("seconds", "Seconds", decimals=1), _value(lambda arm: sum(arm.costs.seconds.values()))),
    (
        Column("peak_memory_mb", "Peak MB", decimals=0, place=Place.DOCUMENT),
        _value(lambda arm: max(arm.costs.peak_memory_bytes.values(), default=0) / _MEGABYTE),
    ),
    (Column("calibration_seconds", "Calib. s", decimals=1, place=Place.DOCUMENT), _of_calibration("seconds", sum, 1)),
    (
        Column("calibration_peak_mb", "Calib. peak MB", decimals=0, place=Place.DOCUMENT),
        _of_calibration("peak_memory_bytes", max, _MEGABYTE),
    ),
    (Column("num_frames", "Frames", place=Place.CSV), _value(lambda arm: arm.conditions.num_frames)),
    (Column("resolution", "Resolution", place=Place.CSV), _value(lambda arm: arm.conditions.resolution)),
    (Column("reference", "Reference", place=Place.CSV, numeric=False), _value(lambda arm: arm.conditions.reference)),
    (
        Column("extractor", "Extractor", place=Place.CSV, numeric=False),
        _value(lambda arm: f"{arm.conditions.extractor.name}:{arm.conditions.extractor.sha256}"),
    ),
    (Column("command", "Command", place=Place.CSV, numeric=False), _value(lambda arm: arm.command)),
]
