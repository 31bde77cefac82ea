import numpy as np
import pytest

from experiments.figures import build_figures, figure_pngs, histogram_ranges


def test_every_figure_renders(arms):
    pngs = figure_pngs(arms)
    assert list(pngs) == ["metrics", "seconds", "ranges"]
    assert all(png.startswith(b"\x89PNG") for png in pngs.values())


def test_no_ranges_without_a_quantized_arm(arms):
    assert "ranges" not in build_figures(arms[:1])


def test_points_carry_the_metrics_and_their_intervals(arms):
    axes = build_figures(arms)["metrics"].axes
    assert [line.get_xdata()[0] for line in axes[0].lines] == [arm.metrics["fvd"] for arm in arms]
    assert axes[1].get_xscale() == "log"
    assert [line.get_xdata()[0] for line in axes[1].lines] == [arms[1].metrics["fvd_fp"]]
    segments = [collection.get_segments()[0][:, 0].tolist() for collection in axes[0].collections]
    assert segments == [arm.metrics["fvd_ci"] for arm in arms]


def test_ranges_mark_the_quantization_range(arms):
    axes = build_figures(arms)["ranges"].axes
    for ax, site in zip(axes, arms[1].histograms, strict=True):
        title = ax.get_title(loc="left")
        assert title == site or (title[0] == "…" and site.endswith(title[1:]) and len(title) > 20)
    assert all(list(ax.lines[0].get_xdata()) == [-3.0, 5.0] for ax in axes)


@pytest.mark.parametrize("bins", [1, 7, 96, 5000])
def test_rebinning_keeps_the_mass_and_the_ends(bins):
    histogram = {"counts": list(range(1000)), "low": -1.0, "high": 3.0}
    counts, edges = histogram_ranges(histogram, bins)
    assert counts.sum() == 499_500
    assert len(edges) == len(counts) + 1 <= max(bins, 1000) + 1
    assert (edges[0], edges[-1]) == (-1.0, 3.0) and np.all(np.diff(edges) > 0)
