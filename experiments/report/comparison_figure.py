"""The win/loss matrix as a picture: how often a row's arm is better than a column's, and whether that decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.comparison import LEVEL, Setting, compared_metrics
from experiments.report.comparison_tables import UNDECIDED, leagues, verdict
from experiments.report.figures import new_figure
from experiments.result import ArmMetrics
from metrics.declaration import Metric, Place

_CELL = 0.42  # inches
_MARGIN = (1.2, 1.25)  # of a panel, for its names and its title
_LEAST = 2.4  # a panel's side, for its title


def comparison_figures(settings: Sequence[Setting]) -> dict[str, Figure]:
    """One figure, by its name, of the first setting with something to compare; none where nothing is.

    A row of panels for each bit width, a panel for each metric on every terminal and for the one that ranks.
    """
    for setting in settings:
        metrics = [metric for metric in compared_metrics() if _drawn(metric) and metric.key in setting.tested]
        panels = {metric.key: {arms[-1].bits: arms for arms in leagues(setting, metric)} for metric in metrics}
        metrics = [metric for metric in metrics if panels[metric.key]]
        if metrics:
            return {"comparisons": _figure(setting, metrics, panels)}
    return {}


def _drawn(metric: Metric) -> bool:
    return metric.ranks or metric.place is Place.TERMINAL


def _figure(setting: Setting, metrics: Sequence[Metric], panels: dict[str, dict[str, list[ArmMetrics]]]) -> Figure:
    rows = list(dict.fromkeys(bits for by_bits in panels.values() for bits in by_bits))
    most = {bits: max(len(by_bits.get(bits, ())) for by_bits in panels.values()) for bits in rows}
    widest = max(_LEAST, _CELL * max(most.values())) + _MARGIN[0]
    heights = [max(1.2, _CELL * most[bits]) + _MARGIN[1] for bits in rows]
    figure = new_figure(widest * len(metrics), sum(heights) + 0.4)
    axes = figure.subplots(len(rows), len(metrics), squeeze=False, height_ratios=heights)
    for bits, of_row in zip(rows, axes, strict=True):
        for metric, ax in zip(metrics, of_row, strict=True):
            if bits in panels[metric.key]:
                _panel(ax, setting, metric, panels[metric.key][bits])
            else:
                ax.set_axis_off()
    note = f"videos on which the row's arm is better than the column's, %; bold on colour: decided at {LEVEL:.0%}"
    figure.supxlabel(f"{note}, Holm-corrected", fontsize=9)
    return figure


def _panel(ax: Axes, setting: Setting, metric: Metric, arms: Sequence[ArmMetrics]) -> None:
    found, n = setting.tested[metric.key], len(arms)
    shares = np.full((n, n), 0.5)
    for i, a in enumerate(arms):
        for j, b in enumerate(arms):
            if a is b:
                continue
            share, decided = found[a.name, b.name].improvement, verdict(found, a.name, b.name) != UNDECIDED
            shares[i, j] = share if decided else 0.5
            weight = "bold" if decided else "normal"
            strong = decided and abs(share - 0.5) > 0.35
            colour = "white" if strong else "#222222" if decided else "#888888"
            ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, fontweight=weight, color=colour)
    ax.imshow(shares, cmap="RdBu", vmin=0, vmax=1)
    ax.set_xticks(range(n), [arm.variant for arm in arms], rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    ax.set_yticks(range(n), [arm.variant for arm in arms], fontsize=8)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set_title(f"{metric.name}, {arms[-1].bits}")
