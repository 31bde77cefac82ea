from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.report.figures import PALETTE, build_figures, figure_pngs, histogram_ranges
from tests.experiments.arms import changed


def test_every_figure_renders(arms):
    pngs = figure_pngs(arms)
    assert list(pngs) == ["metrics", "seconds", "ranges"]
    assert all(png.startswith(b"\x89PNG") for png in pngs.values())


def test_no_ranges_without_a_quantized_arm(arms):
    assert "ranges" not in build_figures(arms[:1])


def test_points_carry_the_metrics_and_their_intervals(arms):
    axes = build_figures(arms)["metrics"].axes
    assert [line.get_xdata()[0] for line in axes[0].lines] == [arm.estimate("fvd").value for arm in arms]
    assert axes[1].get_xscale() == "log"
    assert [line.get_xdata()[0] for line in axes[1].lines] == [arms[1].estimate("fvd_fp").value]
    segments = [collection.get_segments()[0][:, 0].tolist() for collection in axes[0].collections]
    assert segments == [list(arm.estimate("fvd").interval) for arm in arms]


def with_sqnr(arm, variant, bits, first):
    curves = {
        "sqnr_videos": 8,
        "sqnr_teacher_forced": [first, first - 1.0, first - 4.0],
        "sqnr_free_running": [first, first - 3.0, 2.0],
    }
    return changed(arm, variant=variant, bits=bits, **curves)


def sqnr_lines(ax):
    """Colour, line style, steps and dB of every curve of a panel."""
    return [(to_hex(x.get_color()), x.get_linestyle(), list(x.get_xdata()), list(x.get_ydata())) for x in ax.lines]


def test_sqnr_by_step_is_solid_on_fp_inputs_and_dashed_on_its_own_path(arms):
    fp, qvd = arms
    drawn = [with_sqnr(qvd, variant, bits, 30.0) for bits in ("w8a8", "w4a8") for variant in ("naive", "qvd")]
    figure = build_figures([fp, *drawn])["sqnr"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["w8a8", "w4a8"]
    curves = [("-", [1, 2, 3], [30.0, 29.0, 26.0]), ("--", [1, 2, 3], [30.0, 27.0, 2.0])]
    expected = [(colour.lower(), *curve) for colour in PALETTE[:2] for curve in curves]
    assert all(sqnr_lines(ax) == expected for ax in figure.axes)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["naive", "qvd"] and "teacher-forced" in labels[2] and "free-running" in labels[3]


def test_of_many_arms_the_last_bits_are_drawn_in_their_usual_colours(arms):
    fp, qvd = arms
    many = [with_sqnr(qvd, variant, bits, 30.0) for bits in ("w8a8", "w4a8") for variant in "abcd"]
    (panel,) = build_figures([fp, *many])["sqnr"].axes
    assert panel.get_title(loc="left") == "w4a8"
    assert [line[0] for line in sqnr_lines(panel)[::2]] == [colour.lower() for colour in PALETTE[:4]]


def test_no_sqnr_where_none_was_measured(arms):
    assert "sqnr" not in build_figures(arms)


def test_ranges_mark_the_quantization_range(arms):
    axes = build_figures(arms)["ranges"].axes
    for ax, site in zip(axes, arms[1].histograms, strict=True):
        title = ax.get_title(loc="left")
        assert title == site or (title[0] == "…" and site.endswith(title[1:]) and len(title) > 20)
    assert all(list(ax.lines[0].get_xdata()) == [-3.0, 5.0] for ax in axes)


def test_arms_without_ranges_are_not_among_them(arms):
    """Weight-only arms and dynamic grids; alone they have no such figure."""
    fp, qvd = arms
    without = replace(qvd, bits="w8a16", quantization_map=[row | {"range": None} for row in qvd.quantization_map])
    assert "ranges" not in build_figures([fp, without])
    (legend,) = build_figures([fp, without, qvd])["ranges"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["qvd w8a8"]


@pytest.mark.parametrize("bins", [1, 7, 96, 5000])
def test_rebinning_keeps_the_mass_and_the_ends(bins):
    histogram = {"counts": list(range(1000)), "low": -1.0, "high": 3.0}
    counts, edges = histogram_ranges(histogram, bins)
    assert counts.sum() == 499_500
    assert len(edges) == len(counts) + 1 <= max(bins, 1000) + 1
    assert (edges[0], edges[-1]) == (-1.0, 3.0) and np.all(np.diff(edges) > 0)
