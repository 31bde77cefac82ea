import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from experiments.report.published import PUBLISHED
from experiments.report.table import build_table
from experiments.report.tabular import Cell, Column, render_terminal, to_csv, to_markdown
from tests.experiments.arms import changed


def printed(table, width):
    console = Console(width=width, file=io.StringIO())
    render_terminal(table, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [120, 140, 160])
def test_terminal_breaks_no_setting_of_a_sweep(arms, width):
    text = printed(build_table([replace(arm, setting="tiny_animatediff") for arm in arms]), width)
    assert "tiny_animatediff" in text and "qvd w8a8" in text and max(map(len, text.splitlines())) <= width


def test_csv_keeps_every_digit(arms):
    _, row = csv.DictReader(io.StringIO(to_csv(build_table(arms))))
    for key in ("fvd", "fvd_fp", "clipsim", "psnr_fp", "ssim_fp"):
        assert float(row[key]) == arms[1].estimate(key).value
        assert [float(row[f"{key}_low"]), float(row[f"{key}_high"])] == list(arms[1].estimate(key).interval)
    assert float(row["kvd"]) == arms[1].estimate("kvd").value
    assert float(row["tbops"]) == arms[1].costs.bops / 1e12
    assert float(row["seconds"]) == 61.25
    assert float(row["seconds_sampling"]) == 55.25
    assert (row["num_frames"], row["resolution"]) == ("8", "32")
    assert row["extractor"].endswith(arms[1].conditions.extractor.sha256)


def test_missing_value_is_empty_in_csv_and_explained_in_the_caption(arms):
    table = build_table(arms)
    fp, _ = csv.DictReader(io.StringIO(to_csv(table)))
    assert fp["fvd_fp"] == fp["fvd_fp_low"] == ""
    assert "n/a: FVD-FP, Moved, Tipped, KVD-FP, PSNR dB, SSIM: fp is what these columns compare with." in table.caption


def test_the_evaluation_says_why_a_value_is_missing(arms):
    arm = changed(arms[0], clipsim=None, clipsim_ci=None, missing={"clipsim": "no captions"})
    assert "n/a: CLIPSIM: no captions." in build_table([arm]).caption


def test_bit_operations_are_in_documents_with_those_of_fp(arms):
    markdown = to_markdown(build_table(arms))
    header, _, fp, qvd = (line.split(" | ") for line in markdown.splitlines()[2:6])
    column = header.index("TBOPs")
    assert (fp[column], qvd[column]) == ("0.512", "0.0401")
    assert "KVD-FP ↓" in header and "KVD ↓" not in header
    assert "The interval of KVD-FP holds the value in 92 % of runs" in markdown


def test_no_number_without_its_protocol(arms):
    table = build_table(arms)
    for rendering in (to_markdown(table), " ".join(printed(table, 120).split())):
        for fact in ("protocol tiny", "N = 3 videos of 8 frames at 32×32 px", "shapes/evaluation", "9f86d081884c"):
            assert fact in rendering
        assert "tiny_modelscope (embedded tiny model)" in rendering
    assert "41.2 [38.9, 44.0]" in to_markdown(table)


def test_arms_of_different_protocols_are_told_apart(arms):
    other = changed(arms[1], n_videos=2048)
    notes = build_table([arms[0], other]).notes
    assert notes[0].startswith("Measured with (fp)")
    assert notes[1].startswith("Measured with (qvd w8a8)") and "N = 2048" in notes[1]


@pytest.mark.parametrize("width", [100, 120, 140, 160])
def test_terminal_breaks_no_number(arms, width):
    text = printed(build_table(arms), width)
    assert max(map(len, text.splitlines())) <= width
    for whole in ("qvd w8a8", "[38.9, 44.0]", "[0.2901, 0.2962]", "1.23", "28.9", "1.72"):
        assert whole in text


def test_published_values_stand_apart_with_their_source(arms):
    table = build_table(arms)
    assert "not comparable with tiny" in table.appendix.title
    for value in PUBLISHED:
        assert value.source and value.source in to_markdown(table)
    assert PUBLISHED[0].source not in to_csv(table)


@pytest.mark.parametrize(
    ("value", "text"), [(1141.2, "1141 [1000, 1300]"), (0.04312, "0.0431 [1000.0000, 1300.0000]"), (None, "n/a")]
)
def test_three_significant_digits(value, text):
    assert Cell(value, (1000.0, 1300.0)).text(Column("fvd", "FVD")) == text


def test_calibration_costs_are_those_of_its_stages(arms):
    costly = changed(
        arms[1],
        seconds={"calibration": 1.0, "quantization": 2.5, "sampling": 9.0},
        peak_memory_bytes={"calibration": 3e6, "quantization": 2e6, "sampling": 9e6},
    )
    fp, row = csv.DictReader(io.StringIO(to_csv(build_table([arms[0], costly]))))
    assert (row["calibration_seconds"], row["calibration_peak_mb"]) == ("3.5", "3.0")
    assert fp["calibration_seconds"] == fp["calibration_peak_mb"] == ""


def test_no_arms():
    with pytest.raises(ValueError, match="at least one arm"):
        build_table([])
