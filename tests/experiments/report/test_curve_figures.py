"""Curves carry the numbers with their intervals."""

import pytest

from experiments.report.curve_figures import bits_figure, disparity_figure
from experiments.report.figures import to_png
from tests.experiments.arms import changed


def arm_at(arm, variant, bits, distance):
    metrics = {"fvd_fp": distance, "fvd_fp_ci": [0.5 * distance, 2 * distance]}
    return changed(arm, variant=variant, bits=bits, **metrics)


def test_a_line_per_variant_with_its_intervals(arms):
    fp, arm = arms
    results = [fp, *(arm_at(arm, v, b, f * d) for v, f in (("none", 1), ("scri", 0.1)) for b, d in BITS)]
    figure = bits_figure(results)
    distance, psnr = figure.axes
    assert distance.get_yscale() == "log" and psnr.get_yscale() == "linear"
    assert [line.get_label() for line in distance.lines] == ["none", "scri"]
    assert list(distance.lines[1].get_ydata()) == pytest.approx([0.1, 3.0])
    segments = [segment[:, 1].tolist() for segment in distance.collections[1].get_segments()]
    assert segments == [pytest.approx([0.05, 0.2]), pytest.approx([1.5, 6.0])]
    assert [label.get_text() for label in distance.get_xticklabels()] == ["w8a8", "w4a4"]
    assert list(psnr.lines[0].get_ydata()) == [arm.estimate("psnr_fp").value] * 2


BITS = (("w8a8", 1.0), ("w4a4", 30.0))


def test_disparity_is_in_order_whatever_the_arms_are(arms):
    fp, arm = arms
    settings = {64: [fp, arm_at(arm, "qvd", "w6a6", 9.0)], 1: [fp, arm_at(arm, "qvd", "w6a6", 2.0)]}
    ax = disparity_figure(settings).axes[0]
    assert list(ax.lines[0].get_ydata()) == [2.0, 9.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "64"]
    assert ax.lines[0].get_label() == "qvd w6a6"


def test_they_render(arms):
    assert to_png(bits_figure(arms)).startswith(b"\x89PNG")


def test_an_arm_without_the_value_has_no_point(arms):
    fp, arm = arms
    psnr = bits_figure([fp, changed(arm, psnr_fp=None, psnr_fp_ci=None)]).axes[1]
    assert list(psnr.lines[0].get_ydata()) == []
