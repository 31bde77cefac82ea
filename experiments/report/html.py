"""One self-contained report.html per run: no file beside it and no network is needed to read it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.comparison import Setting
from experiments.report.comparison_tables import comparison_tables, reading_notes
from experiments.report.figures import figure_pngs
from experiments.report.media import apng_bytes, grid_image, png_bytes
from experiments.report.notes import describe_model
from experiments.report.table import build_table
from experiments.report.tabular import Table
from experiments.result import ArmResult
from metrics.declaration import Place

_TEMPLATE = "report.html.j2"


def write_report(
    arms: list[ArmResult],
    run_dir: Path,
    config_yaml: str,
    provenance: dict[str, Any],
    figures: Mapping[str, bytes] | None = None,
    settings: Sequence[Setting] = (),
) -> Path:
    """Write `run_dir/report.html`.

    Args:
        arms: rows of the table, in its order.
        run_dir: an existing folder.
        config_yaml: the resolved config.
        provenance: names and values to show as they are, e.g. `tracking.provenance()` and the seed; `command`, if
            given, is shown as the command that repeats the whole run.
        figures: of `figure_pngs`, if they are there already.
        settings: the arms' paired comparisons.

    Returns:
        The path of the report.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = build_table(arms, settings=settings)
    figures = figure_pngs(arms) if figures is None else figures
    facts = {name: value for name, value in provenance.items() if name != "command"}
    html = environment.get_template(_TEMPLATE).render(
        title=describe_model(arms[0]),
        subtitle=", ".join(arm.name for arm in arms),
        command=provenance.get("command"),
        arms=[{"name": arm.name, "command": arm.command, **_map_table(arm)} for arm in arms],
        provenance=facts,
        table=_html_table(table),
        comparisons=[_html_table(matrix) for matrix in comparison_tables(settings)],
        comparison_notes=reading_notes(settings),
        published=None if table.appendix is None else _html_table(table.appendix),
        grid=_data_uri(png_bytes(grid_image(arms)), "image/png"),
        animation=_data_uri(apng_bytes(arms), "image/png"),
        figures={name: _data_uri(png, "image/png") for name, png in figures.items()},
        config=config_yaml,
    )
    path = run_dir / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def _html_table(table: Table) -> dict[str, Any]:
    columns, rows = table.at(Place.DOCUMENT)
    cells = [
        [
            (*cell.text(column, separator="\n").partition("\n"), column.numeric)
            for cell, column in zip(row, columns, strict=True)
        ]
        for row in rows
    ]
    return {"title": table.title, "columns": columns, "rows": cells, "notes": table.notes}


def _map_table(arm: ArmResult) -> dict[str, Any]:
    """The quantization map as text: its keys as columns, in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in arm.quantization_map for key in row))
    return {"columns": columns, "rows": [[_text(row.get(key)) for key in columns] for row in arm.quantization_map]}


def _text(value: Any) -> str:
    if value is None or value == {}:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(item) for item in value)}]"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
