"""Figures of a run: metrics with intervals, SQNR by step, activation ranges, seconds. Nothing here touches the disk."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.result import ArmResult, drawable
from metrics.declaration import Metric
from metrics.registry import headline_metrics

# Okabe and Ito's colour-blind-safe palette; FP is black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
FP_COLOUR = "#222222"
BAR_COLOUR = "#aab2bd"
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
_HISTOGRAM_BINS = 96
_TITLE = 44  # characters that fit over a panel
_RANGE_COLUMNS = 3
_RANGE_ARMS = 6
_SQNR_ARMS = 6
_SQNR_LINES: dict[str, tuple[str, Literal["-", "--"]]] = {  # of StepSqnr → (legend, line)
    "teacher_forced": ("on FP's inputs\n(teacher-forced)", "-"),
    "free_running": ("on its own path\n(free-running)", "--"),
}
_DPI = 140
_WIDTH = 10.5
_PANEL_WIDTH = 2.6  # of a metric, at least


def build_figures(arms: list[ArmResult], sites: int = 6) -> dict[str, Figure]:
    """Every figure of the run by name: "metrics", "seconds" and, where something is quantized, "sqnr" and "ranges".

    An arm whose activations are in floating point, or on dynamic grids, has no range to show.
    """
    figures = {"metrics": metric_figure(arms), "seconds": seconds_figure(arms)}
    if any(arm.step_sqnr for arm in arms):
        figures["sqnr"] = sqnr_figure(arms)
    if any(_has_ranges(arm) and arm.histograms for arm in arms):
        figures["ranges"] = range_figure(arms, sites)
    return figures


def figure_pngs(arms: list[ArmResult]) -> dict[str, bytes]:
    """`build_figures`, drawn as PNG."""
    return {name: to_png(figure) for name, figure in build_figures(arms).items()}


def to_png(figure: Figure) -> bytes:
    """The figure's PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def metric_figure(arms: list[ArmResult]) -> Figure:
    """A panel per headline metric: a point with its interval per arm; FP's interval is shaded where FP has one."""
    metrics = headline_metrics()
    figure = new_figure(max(_WIDTH, _PANEL_WIDTH * len(metrics)), 1.1 + 0.32 * len(arms))
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    colours = _colours(arms)
    for ax, metric in zip(axes, metrics, strict=True):
        _points(ax, arms, metric, colours)
        ax.set_title(metric.panel_title)
        ax.grid(visible=False, axis="y")
        ax.set_xscale("log" if metric.log_scale else "linear")
    axes[0].set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def sqnr_figure(arms: list[ArmResult]) -> Figure:
    """A panel per bits: dB of the predictions at each sampler step, a colour per variant.

    Solid on the FP model's inputs (the error that one step adds), dashed on the arm's own path (the error that has come
    together). Of many arms, those at the last one's bits are drawn.
    """
    colours = dict(zip((arm.variant for arm in arms), _colours(arms), strict=True))
    curves = {arm.name: arm.step_sqnr for arm in arms if arm.step_sqnr is not None}
    arms = drawable([arm for arm in arms if arm.name in curves], _SQNR_ARMS)
    widths = list(dict.fromkeys(arm.bits for arm in arms))
    figure = new_figure(10.5, 3.6)
    axes = dict(zip(widths, figure.subplots(1, len(widths), sharey=True, squeeze=False)[0], strict=True))
    for arm in arms:
        for name, (_, line) in _SQNR_LINES.items():
            values = getattr(curves[arm.name], name)
            steps = range(1, len(values) + 1)
            axes[arm.bits].plot(steps, values, line, color=colours[arm.variant], linewidth=1.6)
    for bits, ax in axes.items():
        ax.set_title(bits)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.margins(x=0.015)  # so narrow that no tick stands at step 0
        ax.set_xlabel("sampler step")
    videos = ", ".join(map(str, dict.fromkeys(curves[arm.name].videos for arm in arms)))
    axes[widths[0]].set_ylabel(f"SQNR of the prediction, dB ↑\n(mean of the first {videos} videos)")
    handles = {arm.variant: Line2D([], [], color=colours[arm.variant], linewidth=2) for arm in arms}
    handles |= {label: Line2D([], [], color=FP_COLOUR, linestyle=line) for label, line in _SQNR_LINES.values()}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return figure


def range_figure(arms: list[ArmResult], sites: int = 6) -> Figure:
    """Activation histograms of `sites` sites spread over the network, under the quantization range of every arm.

    A site's range is that of the quantization map's row of the same `layer`; values outside it are clipped. The map
    gives it after a method's shift and scale, so there it overlays the raw histogram only roughly. Of many arms, those
    at the last one's bits are drawn.
    """
    arms = drawable([arm for arm in arms if _has_ranges(arm)], _RANGE_ARMS)
    histograms = arms[0].histograms
    ranges = [{row["layer"]: row["range"] for row in arm.quantization_map} for arm in arms]
    known = [site for site in histograms if any(of_arm.get(site) for of_arm in ranges)]
    chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, min(sites, len(known))).round().astype(int))]
    columns = min(_RANGE_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(10.5, 0.8 + 2.0 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    for ax, site in zip(axes, chosen, strict=False):
        _histogram(ax, histograms[site])
        for i, (arm, of_arm) in enumerate(zip(arms, ranges, strict=True)):
            if of_arm.get(site):
                _bracket(
                    ax,
                    of_arm[site],
                    height=0.96 - i * 0.34 / len(arms),
                    colour=PALETTE[i % len(PALETTE)],
                    label=arm.name,
                )
        ax.set_title(site if len(site) <= _TITLE else f"…{site[1 - _TITLE :]}", fontsize=8, fontweight="normal")
    figure.supxlabel(
        "activation in calibration (bars) and quantization range after shift and scale, if any (lines)", fontsize=9
    )
    figure.supylabel("share of values, log", fontsize=9)
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure


def seconds_figure(arms: list[ArmResult]) -> Figure:
    """Stacked bars: seconds of each stage per arm."""
    stages = list(dict.fromkeys(stage for arm in arms for stage in arm.costs.seconds))
    figure = new_figure(10.5, 1.1 + 0.32 * len(arms))
    ax = figure.subplots()
    left = np.zeros(len(arms))
    for i, stage in enumerate(stages):
        seconds = np.array([arm.costs.seconds.get(stage, 0.0) for arm in arms])
        colour = PALETTE[i % len(PALETTE)]
        ax.barh(range(len(arms)), seconds, left=left, label=stage, color=colour, edgecolor="white", height=0.7)
        left += seconds
    for row, total in enumerate(left):
        ax.annotate(f" {total:.1f} s", (total, row), va="center", fontsize=8)
    ax.set_yticks(range(len(arms)), [arm.name for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.margins(x=0.08)
    ax.grid(visible=False, axis="y")
    ax.set_title("Seconds per stage, when computed")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def histogram_ranges(histogram: dict[str, Any], bins: int = _HISTOGRAM_BINS) -> tuple[np.ndarray, np.ndarray]:
    """Counts summed into at most `bins` bins, and their edges (one more)."""
    counts = np.asarray(histogram["counts"], dtype=np.float64)
    edges = np.linspace(histogram["low"], histogram["high"], len(counts) + 1)
    step = -(-len(counts) // bins)
    starts = np.arange(0, len(counts), step)
    return np.add.reduceat(counts, starts), np.append(edges[starts], edges[-1])


def new_figure(width: float, height: float) -> Figure:
    """A figure outside pyplot, so that none is left open, in this module's style."""
    # Artists read their defaults when they are made, so the style must outlive this function.
    style.use(_STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def _has_ranges(arm: ArmResult) -> bool:
    return any(row["range"] for row in arm.quantization_map)


def _colours(arms: list[ArmResult]) -> list[str]:
    variants = list(dict.fromkeys(arm.variant for arm in arms if arm.quantizer != "fp"))
    palette = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(variants)}
    return [palette.get(arm.variant, FP_COLOUR) for arm in arms]


def _points(ax: Axes, arms: list[ArmResult], metric: Metric, colours: list[str]) -> None:
    for row, (arm, colour) in enumerate(zip(arms, colours, strict=True)):
        value, interval = arm.estimate(metric.key).value, arm.estimate(metric.key).interval
        if value is None:
            ax.annotate(
                "n/a", (0.02, row), xycoords=("axes fraction", "data"), va="center", color="#888888", fontsize=8
            )
            continue
        if interval is not None:
            ax.hlines(row, *interval, color=colour, linewidth=2)
            if arm.quantizer == "fp":
                ax.axvspan(*interval, color=FP_COLOUR, alpha=0.08, linewidth=0)
        ax.plot(value, row, "o", color=colour, markersize=6)


def _histogram(ax: Axes, histogram: dict[str, Any]) -> None:
    counts, edges = histogram_ranges(histogram)
    # The bars end below the brackets: the axis spans 1e-6 to 1e3, a share at most 1.
    ax.stairs(np.maximum(counts / counts.sum(), 1e-6), edges, fill=True, baseline=1e-6, color=BAR_COLOUR)
    ax.set_yscale("log")
    ax.set_ylim(1e-6, 1e3)
    ax.set_yticks([1e-6, 1e-4, 1e-2, 1.0])
    ax.minorticks_off()


def _bracket(ax: Axes, ends: tuple[float, float], height: float, colour: str, label: str) -> None:
    """A line from end to end at `height`, a fraction of the axes."""
    ax.plot(ends, (height, height), "|-", color=colour, linewidth=2, label=label, transform=ax.get_xaxis_transform())
