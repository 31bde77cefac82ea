"""Figures of ablations: the metrics that compare with FP, against bits or against a dial that a sweep turned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.figures import PALETTE, new_figure
from experiments.result import ArmMetrics
from metrics.declaration import Interval, Metric
from metrics.registry import fidelity_metrics

_MARKERS = "osD^vPX"


def bits_figure(arms: Sequence[ArmMetrics], variant: Callable[[ArmMetrics], str] = lambda arm: arm.variant) -> Figure:
    """Distance to the FP samples against bits, a line with intervals per variant.

    Args:
        arms: of one model; FP, which the metrics compare with, is left out.
        variant: which line an arm belongs to.

    Example:
        >>> bits_figure(results)
    """
    arms = [arm for arm in arms if arm.quantizer != "fp"]
    places = {bits: place for place, bits in enumerate(dict.fromkeys(arm.bits for arm in arms))}
    figure = _curves([(variant(arm), places[arm.bits], arm) for arm in arms], spread=0.3)
    for ax in figure.axes:
        ax.set_xticks(range(len(places)), list(places))
        ax.set_xlim(-0.5, len(places) - 0.5)
        ax.set_xlabel("bits")
    return figure


def disparity_figure(
    arms: Mapping[float, Sequence[ArmMetrics]],
    variant: Callable[[ArmMetrics], str] = lambda arm: arm.name,
    label: str = "factor on channel disparity (ours), 1 = the model as trained",
) -> Figure:
    """Distance to the FP samples against the dial of difficulty, a line with intervals per variant.

    Args:
        arms: setting of the dial → the arms run at it; FP arms are left out.
        variant: which line an arm belongs to.
        label: of the x axis, for another dial than `model.disparity`.

    Example:
        >>> disparity_figure({1: plain_results, 8: results_at_8, 64: results_at_64})
    """
    quantized = [(x, arm) for x, of_x in arms.items() for arm in of_x if arm.quantizer != "fp"]
    settings = sorted(arms)
    figure = _curves([(variant(arm), settings.index(x), arm) for x, arm in quantized], spread=0.12)
    for ax in figure.axes:
        ax.set_xticks(range(len(settings)), [f"{x:g}" for x in settings])
        ax.set_xlim(-0.5, len(settings) - 0.5)
        ax.set_xlabel(label)
    return figure


def _curves(points: Sequence[tuple[str, float, ArmMetrics]], spread: float) -> Figure:
    """A panel per metric, for points (line, x, arm); lines are set apart by up to `spread`, so that intervals show."""
    lines = list(dict.fromkeys(line for line, _, _ in points))
    offsets = np.linspace(-spread / 2, spread / 2, len(lines)) if len(lines) > 1 else np.zeros(1)
    metrics = fidelity_metrics()
    figure = new_figure(max(10.5, 5.25 * len(metrics)), 4.2)
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        for i, (line, offset) in enumerate(zip(lines, offsets, strict=True)):
            of_line = sorted(((x, arm) for name, x, arm in points if name == line), key=lambda point: point[0])
            _curve(ax, metric, of_line, offset, line, i)
        if metric.log_scale:
            ax.set_yscale("log")
        ax.set_title(metric.panel_title)
        ax.grid(visible=False, axis="x")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(lines), 6))
    return figure


def _curve(
    ax: Axes, metric: Metric, points: Sequence[tuple[float, ArmMetrics]], offset: float, label: str, number: int
) -> None:
    """One line with its intervals, where the metric has any."""
    colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
    style = ("-", "--", ":")[min(number // len(PALETTE), 2)]
    points = [(place, arm) for place, arm in points if arm.estimate(metric.key).value is not None]
    x = np.array([place for place, _ in points]) + offset
    estimates = [arm.estimate(metric.key) for _, arm in points]
    y = np.array([estimate.value for estimate in estimates])
    ax.plot(x, y, marker=marker, color=colour, linestyle=style, label=label, markersize=5)
    if metric.interval is not Interval.none:
        intervals = np.array([estimate.interval for estimate in estimates]).reshape(-1, 2)
        ax.vlines(x, *intervals.T, color=colour, linewidth=2, alpha=0.6)
