"""The artists carry the numbers: levels, distances, ranges, coverage."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments.report.figures import to_png
from experiments.report.qvd_figures import (
    channel_range_figure,
    coverage_figure,
    distance_figure,
    family_grids,
    temporal_levels_figure,
    transformed_ranges,
)
from qvd.calibration.observers import HistogramObserver, Ranges
from qvd.numerics.grids import AffineGrid
from qvd.spec.quantization import LayerQuantization, Quantization

TIMESTEPS = [999, 666, 333, 0]


@pytest.fixture(scope="module")
def features():
    return F.silu(2 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def grids(features):
    return family_grids(features, 4)


def test_every_member_has_a_row_with_its_levels(features, grids):
    figure = temporal_levels_figure(features, grids, "title")
    rows = figure.axes[1].collections
    assert len(rows) == len(grids) == 7
    for row, grid in zip(rows, grids.values(), strict=True):
        assert [segment[0][0] for segment in row.get_segments()] == grid.codebook().tolist()
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert [label.split(",")[0] for label in labels] == list(grids)
    assert "32 levels" in labels[list(grids).index("log2")]
    shares = figure.axes[0].patches[0].get_data().values
    assert shares[shares > 1e-6].sum() == pytest.approx(1)


def test_distance_matrices_are_those_of_the_features(features, grids):
    pair = {"uniform": grids["uniform"], "coarse": AffineGrid(2, 1.0, 0.0)}
    figure = distance_figure(features, pair, TIMESTEPS)
    before, uniform, coarse, *changes = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    expected = (features[0] - features[2]).norm().item()
    assert before[0, 2] == pytest.approx(expected, rel=1e-5)
    assert np.allclose(changes[0], uniform - before) and np.allclose(changes[1], coarse - before)
    assert np.abs(changes[1]).max() > np.abs(changes[0]).max() > 0
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [str(t) for t in TIMESTEPS]


@pytest.fixture(scope="module")
def transformed():
    """Two layers of one kind, the second scattered more, one of another kind, and one without a transform."""
    generator, ranges, layers = torch.Generator().manual_seed(0), {}, {}
    for name, gain in (("x.attn.to_q", 2.0), ("y.attn.to_q", 50.0), ("y.conv.2", 4.0), ("y.plain", 4.0)):
        observer = HistogramObserver(-1)
        observer.update(torch.randn(100, 8, generator=generator) * gain ** torch.linspace(-1, 1, 8) + 3)
        ranges[name] = record = observer.result()
        shift, scale = (record.channel_max + record.channel_min) / 2, record.channel_max - record.channel_min
        changed = {} if name == "y.plain" else {"shift": shift, "scale": scale}
        layers[name] = LayerQuantization(name, "linear", "default", **changed)
    return Ranges(ranges), Quantization(layers, {})


def test_ranges_of_each_kind_are_transformed(transformed):
    found = transformed_ranges(*transformed, count=4)
    assert list(found) == ["y.attn.to_q", "y.conv.2"]
    for before, after in found.values():
        assert np.ptp(before, axis=1).max() > 2 * np.ptp(before, axis=1).min()
        assert after == pytest.approx(np.array([[-0.5, 0.5]] * 8), abs=1e-5)
    assert list(transformed_ranges(*transformed, count=1)) == ["y.attn.to_q"]


def test_a_layer_that_calibration_never_saw_change_has_no_ranges(transformed):
    """As the timestep's embedder, calibrated at one timestep: shifted by its input, nothing is left of it."""
    ranges, quantization = transformed
    observer = HistogramObserver(-1)
    observer.update(torch.linspace(-1, 1, 8).expand(100, 8))
    record = observer.result()
    still = LayerQuantization("x.linear_1", "linear", "default", shift=record.channel_min)
    layers = {**quantization.layers, still.name: still}
    observed = Ranges({**ranges, still.name: record})
    assert list(transformed_ranges(observed, Quantization(layers, {}), count=4)) == ["y.attn.to_q", "y.conv.2"]


def test_range_bars_are_sorted_by_width(transformed):
    figure = channel_range_figure(transformed_ranges(*transformed, count=1))
    (low, high) = np.array([segment[:, 1] for segment in figure.axes[0].collections[0].get_segments()]).T
    assert len(low) == 8 and np.all(np.diff(high - low) > 0)
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [low.min(), high.max()]
    assert figure.axes[0].get_title(loc="left") == "y.attn.to_q before"


def test_coverage_runs_from_before_to_after():
    notes = [{"coverage_before": 0.1, "coverage": 0.5}, {"coverage_before": 0.3, "coverage": 0.7}, {}]
    names = ["down_blocks.0.conv1", "mid_block.conv1", "conv_out"]
    figure = coverage_figure([{"layer": n, "notes": note} for n, note in zip(names, notes, strict=True)])
    ax = figure.axes[0]
    assert [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()] == [[10, 50], [30, 70]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["before, mean 20 %", "after, mean 60 %"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["down_blocks.0", "mid_block"]


def test_they_render(features, grids, transformed):
    figures = [
        temporal_levels_figure(features, grids, "title"),
        distance_figure(features, {"uniform": grids["uniform"]}, TIMESTEPS),
        channel_range_figure(transformed_ranges(*transformed, count=2)),
    ]
    assert all(to_png(figure).startswith(b"\x89PNG") for figure in figures)
