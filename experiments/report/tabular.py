"""A typed table and its three renderings: rich in the terminal, markdown, csv."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from metrics.declaration import Place

MISSING = "n/a"
_UNKNOWN_TERMINAL = 140  # columns, where stdout is none
_UNLIMITED = 10_000


@dataclass(frozen=True)
class Column:
    """`key` heads the csv column, `header` every other rendering.

    It is shown at its `place` and in every place after that. `decimals` fixes the digits after the point; None gives
    three significant digits.
    """

    key: str
    header: str
    decimals: int | None = None
    place: Place = Place.TERMINAL
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A value, None where there is none, and its interval [low, high] if it has one."""

    value: float | str | None
    interval: tuple[float, float] | None = None

    def text(self, column: Column, separator: str = " ") -> str:
        """E.g. "41.2 [38.9, 44.0]"; the interval has as many decimals as the value."""
        if self.value is None:
            return MISSING
        if isinstance(self.value, str):
            return self.value
        decimals = _significant_decimals(self.value) if column.decimals is None else column.decimals
        if self.interval is None:
            return f"{self.value:.{decimals}f}"
        low, high = self.interval
        return f"{self.value:.{decimals}f}{separator}[{low:.{decimals}f}, {high:.{decimals}f}]"


@dataclass(frozen=True)
class Table:
    """Columns, rows of cells, what must be read with them (`notes`), and a table set apart from this one."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    appendix: Table | None = None

    @property
    def caption(self) -> str:
        return "\n".join(self.notes)

    def at(self, place: Place) -> tuple[list[Column], list[list[Cell]]]:
        """The columns shown at `place`, and the rows cut down to them."""
        kept = [i for i, column in enumerate(self.columns) if column.place <= place]
        return [self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows]


def render_terminal(table: Table, console: Console | None = None) -> None:
    """Print the table and its appendix; where not all fit there are fewer columns, never broken numbers or names."""
    if console is None:
        sized = Console().is_terminal or "COLUMNS" in os.environ
        console = Console(width=None if sized else _UNKNOWN_TERMINAL)
    rendered = _rich_table(table, Place.WIDE_TERMINAL)
    needed = console.measure(rendered, options=console.options.update_width(_UNLIMITED)).maximum
    console.print()
    console.print(rendered if needed <= console.width else _rich_table(table, Place.TERMINAL))
    for note in table.notes:
        console.print(f"  {note}", style="dim", markup=False, highlight=False)
    if table.appendix is not None:
        render_terminal(table.appendix, console)


def to_markdown(table: Table) -> str:
    """GitHub-flavoured markdown: title, table, notes, then the appendix."""
    columns, rows = table.at(Place.DOCUMENT)
    lines = [f"## {table.title}", "", "| " + " | ".join(column.header for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if column.numeric else ":---" for column in columns) + "|")
    for row in rows:
        cells = [cell.text(column).replace("|", "\\|") for cell, column in zip(row, columns, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {note}" for note in table.notes), ""]
    if table.appendix is not None:
        lines += [to_markdown(table.appendix)]
    return "\n".join(lines)


def to_csv(table: Table) -> str:
    """Every column at full precision; an interval becomes `<key>_low`, `<key>_high`; a missing cell is empty."""
    columns, rows = table.at(Place.CSV)
    intervals = [any(row[i].interval is not None for row in rows) for i in range(len(columns))]
    header: list[str] = []
    for column, has_interval in zip(columns, intervals, strict=True):
        header += [column.key, f"{column.key}_low", f"{column.key}_high"] if has_interval else [column.key]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        values: list[float | str | None] = []
        for cell, has_interval in zip(row, intervals, strict=True):
            values += [cell.value, *(cell.interval or (None, None))] if has_interval else [cell.value]
        writer.writerow(values)
    return out.getvalue()


def _significant_decimals(value: float, digits: int = 3) -> int:
    if value == 0 or not math.isfinite(value):
        return digits - 1
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _rich_table(table: Table, place: Place) -> RenderableType:
    columns, rows = table.at(place)
    out = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        out.add_column(column.header, justify=justify, no_wrap=column.numeric, overflow="fold")
    for row in rows:
        texts = []
        for cell, column in zip(row, columns, strict=True):
            value, _, interval = cell.text(column, separator="\n").partition("\n")
            texts.append(
                Text.assemble((value, "dim" if value == MISSING else ""), (f"\n{interval}" * bool(interval), "dim"))
            )
        out.add_row(*texts)
    return out
