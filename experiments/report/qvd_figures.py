"""Figures of QVD's two parts: what HTDQ's grids and SCRI's transforms do.

Pure functions from arrays and quantization maps to figures; nothing here touches the disk. See `figures` for the run's
other figures, and `curve_figures` for what the parts bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from experiments.report.figures import BAR_COLOUR, FP_COLOUR, PALETTE, new_figure
from qvd.algorithms.htdq.grids import FORMS, select_grid
from qvd.algorithms.htdq.tdscore import td1
from qvd.calibration.observers import Ranges
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import Grid, InputGrid
from qvd.spec.quantization import Quantization

_HISTOGRAM_BINS = 120
_BEFORE, _AFTER = BAR_COLOUR, PALETTE[0]


def family_grids(features: Tensor, n_bits: int) -> dict[str, Grid]:
    """The best grid of every HiDi-TQ member for (n_timesteps, channels) temporal features, `uniform` first."""
    return {form.value: select_grid(features, n_bits, form).grid for form in FORMS}


def temporal_levels_figure(features: Tensor, grids: Mapping[str, Grid], title: str) -> Figure:
    """Histogram of temporal features over the levels of each grid, with the grid's TD1.

    Args:
        features: (n_timesteps, channels), as `ModelAdapter.temporal_features` gives them for a site.
        grids: by name, one row each.
        title: of the figure.

    Example:
        >>> temporal_levels_figure(features, family_grids(features, 4), "temporal features and 4-bit levels")
    """
    figure = new_figure(10.5, 2.6 + 0.32 * len(grids))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.0, 0.32 * len(grids)])
    values = features.double().flatten().cpu().numpy()
    counts, edges = np.histogram(values, _HISTOGRAM_BINS)
    top.stairs(np.maximum(counts / counts.sum(), 1e-7), edges, fill=True, baseline=1e-7, color=BAR_COLOUR)
    top.set_yscale("log")
    top.set_ylim(0.3 / counts.sum(), 1)
    top.set_ylabel("share of values, log")
    top.set_title(title)
    for row, (grid, colour) in enumerate(zip(grids.values(), _cycle(PALETTE), strict=False)):
        levels = grid.codebook().numpy()
        bottom.vlines(levels, row - 0.36, row + 0.36, color=colour, linewidth=1.1)
    bottom.set_yticks(range(len(grids)), [_describe(name, grid, features) for name, grid in grids.items()])
    bottom.set_ylim(len(grids) - 0.5, -0.5)
    bottom.grid(visible=False, axis="y")
    bottom.set_xlabel("value of the temporal feature (bars) and quantization levels (ticks)")
    margin = 0.03 * (values.max() - values.min())
    bottom.set_xlim(values.min() - margin, values.max() + margin)
    return figure


def _describe(name: str, grid: Grid, features: Tensor) -> str:
    return f"{name}, {grid.num_levels} levels, TD1 {_td1(features, grid):.3f}"


def _td1(features: Tensor, grid: InputGrid) -> float:
    x = features.double()
    return td1(F.pdist(x), grid(x))


def distance_figure(features: Tensor, grids: Mapping[str, InputGrid], timesteps: Sequence[int]) -> Figure:
    """Pairwise distances ‖e_t - e_s‖ of temporal features, before and after each grid, and what each adds to them.

    Args:
        features: (n_timesteps, channels).
        grids: by name, e.g. the uniform and the selected one.
        timesteps: of the features' rows.

    Example:
        >>> distance_figure(features, {"uniform": uniform, "selected: power": selected}, timesteps.tolist())
    """
    x = features.double().cpu()
    before = torch.cdist(x, x).numpy()
    after = {name: torch.cdist(grid(x), grid(x)).numpy() for name, grid in grids.items()}
    figure = new_figure(3.3 * (1 + len(grids)), 6.2)
    axes = figure.subplots(2, 1 + len(grids), squeeze=False)
    worst = max(np.abs(matrix - before).max() for matrix in after.values())
    distances = [
        ("floating point", before),
        *((f"{n}, TD1 {_td1(features, g):.3f}", after[n]) for n, g in grids.items()),
    ]
    for ax, (title, matrix) in zip(axes[0], distances, strict=True):
        colours = _matrix(ax, matrix, timesteps, title, "viridis", 0, before.max())
    figure.colorbar(colours, ax=list(axes[0]), label="distance", shrink=0.9)
    axes[1, 0].set_axis_off()
    for ax, (name, matrix) in zip(axes[1, 1:], after.items(), strict=True):
        colours = _matrix(ax, matrix - before, timesteps, f"{name}: change", "RdBu_r", -worst, worst)
    figure.colorbar(colours, ax=list(axes[1]), label="change of distance", shrink=0.9)
    return figure


def _matrix(
    ax: Axes, matrix: np.ndarray, timesteps: Sequence[int], title: str, colours: str, low: float, high: float
) -> Any:
    image = ax.imshow(matrix, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    ticks = np.unique(np.linspace(0, len(timesteps) - 1, 4).round().astype(int))
    ax.set_xticks(ticks, [timesteps[i] for i in ticks])
    ax.set_yticks(ticks, [timesteps[i] for i in ticks])
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("timestep", fontsize=8)
    ax.grid(visible=False)
    return image


def transformed_ranges(
    ranges: Ranges, quantization: Quantization, count: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per-channel ranges before and after SCRI, where it evened them out most: of one layer each of `count` kinds.

    Layers whose channels calibration has never seen change (an embedder of the timestep, at one timestep) have none.

    Returns:
        Layer → two (channels, 2) arrays of [min, max]: of x, and of x'' = (x - s)/c.
    """
    found = {}
    for name, layer in quantization.layers.items():
        if layer.shift is None and layer.scale is None:
            continue
        transform, record = ChannelTransform(layer.shift, layer.scale), ranges[name]
        bounds = torch.stack([record.channel_min, record.channel_max], 1)
        if torch.equal(record.channel_min, record.channel_max):
            continue
        found[name] = (bounds.numpy(), transform(bounds, 0).numpy())
    gains = {name: _spread(before) / _spread(after) for name, (before, after) in found.items()}
    best: dict[str, str] = {}
    for name in sorted(found, key=gains.__getitem__, reverse=True):
        best.setdefault(".".join(name.split(".")[-2:]), name)  # its kind: attn1.to_q, net.2, conv1.2, …
    chosen = list(best.values())[:count]
    return {name: bounds for name, bounds in found.items() if name in chosen}


def _spread(bounds: np.ndarray) -> float:
    """Extent of all channels together over that of the median channel."""
    return float((bounds.max() - bounds.min()) / max(np.median(np.ptp(bounds, axis=1)), 1e-12))


def channel_range_figure(layers: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """A row per layer: every channel's range as a bar, before SCRI and after, the tensor's range as lines.

    Args:
        layers: as `transformed_ranges` gives them, at least one.

    Example:
        >>> channel_range_figure(transformed_ranges(ranges, quantization, 4))
    """
    figure = new_figure(10.5, 0.6 + 1.7 * len(layers))
    axes = figure.subplots(len(layers), 2, squeeze=False)
    for row, (name, pair) in zip(axes, layers.items(), strict=True):
        order = np.argsort(np.ptp(pair[0], axis=1))
        for ax, bounds, colour, when in zip(row, pair, (FP_COLOUR, _AFTER), ("before", "after"), strict=True):
            ax.vlines(np.arange(len(order)), *bounds[order].T, color=colour, linewidth=max(0.6, 160 / len(order)))
            for end in (bounds.min(), bounds.max()):
                ax.axhline(end, color=PALETTE[1], linewidth=1)
            ax.set_xlim(-1, len(order))
            ax.grid(visible=False, axis="x")
            ax.set_title(f"{name if when == 'before' else ''} {when}".strip(), fontsize=8, fontweight="normal")
    figure.supxlabel("channels, narrowest first (bars: each channel's range; lines: the whole tensor's)", fontsize=9)
    figure.supylabel("activation", fontsize=9)
    return figure


def coverage_figure(quantization_map: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of the levels that a layer's channels use on average, before SCRI and after, in module order.

    Args:
        quantization_map: an arm's; rows without the `coverage` notes are left out, at least one has them.

    Example:
        >>> coverage_figure(arm.quantization_map)
    """
    rows = [row for row in quantization_map if "coverage" in row["notes"]]
    before, after = (100 * np.array([row["notes"][key] for row in rows]) for key in ("coverage_before", "coverage"))
    figure = new_figure(10.5, 3.4)
    ax = figure.subplots()
    places = np.arange(len(rows))
    ax.vlines(places, before, after, color=BAR_COLOUR, linewidth=1.2)
    ax.plot(places, before, "o", color=FP_COLOUR, markersize=3.5, label=f"before, mean {before.mean():.0f} %")
    ax.plot(places, after, "o", color=_AFTER, markersize=3.5, label=f"after, mean {after.mean():.0f} %")
    ax.set_xlim(-1, len(rows))
    ax.set_ylim(0, 103)
    ax.grid(visible=False, axis="x")
    _mark_stages(ax, [row["layer"] for row in rows])
    ax.set_ylabel("levels used per channel, %")
    ax.set_title("Coverage of quantization levels by the channels of each layer")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.08), ncols=2)
    return figure


def _mark_stages(ax: Axes, names: Sequence[str]) -> None:
    """Label the x axis by the stages of the network (`down_blocks.0`, …), a line where one ends."""
    stages = [".".join(name.split(".")[:2]) if "blocks" in name.split(".")[0] else name.split(".")[0] for name in names]
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    ends = [*starts[1:], len(stages)]
    for start in starts[1:]:
        ax.axvline(start - 0.5, color="#cccccc", linewidth=0.8)
    wide = [(s, e) for s, e in zip(starts, ends, strict=True) if e - s >= 0.02 * len(stages)]
    ax.set_xticks([(s + e - 1) / 2 for s, e in wide], [stages[s] for s, _ in wide], rotation=20, ha="right", fontsize=8)
    ax.tick_params(axis="x", length=0)


def _cycle(items: Sequence[str]) -> list[str]:
    return list(items) * 8
