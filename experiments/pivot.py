"""A metric of a finished run, variants by bits, as in README: `python -m experiments.pivot FOLDER [metric …]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.folders import METRICS
from experiments.record import arm_from_record
from experiments.report.table import metric_column
from experiments.report.tabular import Cell, Column, Table, to_markdown
from experiments.result import ArmMetrics
from metrics.errors import one_line_errors
from metrics.registry import fidelity_metrics

EMPTY = Cell("")


def read_arms(folder: Path) -> list[ArmMetrics]:
    """The arms in the metrics.json of a run or of a sweep.

    Raises:
        FileNotFoundError: there is none.
    """
    document = json.loads((folder / METRICS).read_text())
    records = document if isinstance(document, list) else list(document["arms"].values())
    finished = [record for record in records if "error" not in record]  # of a sweep's jobs
    return [arm_from_record(record, record.pop("setting", "")) for record in finished]


def pivot(arms: Sequence[ArmMetrics], metric: str) -> Table:
    """A row for every variant and setting, a column for every bit width; FP's own row where it has the metric.

    Raises:
        ValueError: a metric that is no column of the results table.
    """
    column, fill = metric_column(metric)
    widths = list(dict.fromkeys(arm.bits for arm in arms if fill(arm).value is not None))
    rows: dict[str, dict[str, Cell]] = {}
    for arm in arms:
        name = " ".join(filter(None, (arm.setting, arm.variant)))
        rows.setdefault(name, {})[arm.bits] = fill(arm)
    columns = [Column("variant", column.header, numeric=False)]
    columns += [Column(bits, bits, decimals=column.decimals) for bits in widths]
    cells = [
        [Cell(name), *(by_bits.get(bits, EMPTY) for bits in widths)]
        for name, by_bits in rows.items()
        if any(bits in by_bits for bits in widths)
    ]
    return Table(title=column.header, columns=columns, rows=cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of a run, or of a sweep")
    shown = [metric.key for metric in fidelity_metrics()]
    about = f"columns of table.csv ({' '.join(shown)})"
    parser.add_argument("metrics", nargs="*", default=shown, help=about)
    options = parser.parse_args()
    with one_line_errors():
        arms = read_arms(options.folder)
        for metric in options.metrics:
            print(to_markdown(pivot(arms, metric)))


if __name__ == "__main__":
    main()
