"""Variants by bits, from what a run leaves behind."""

import json

import pytest

from experiments.pivot import pivot, read_arms
from experiments.record import metrics_document
from experiments.report.tabular import to_markdown
from tests.experiments.conftest import make_arm


@pytest.fixture
def folder(tmp_path, arms):
    fp, qvd = arms
    naive = [make_arm("naive", bits, fp.videos, fp.prompts, fvd_fp=2.5, fvd_fp_ci=[2, 3]) for bits in ("w8a8", "w4a8")]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_document([fp, *naive, qvd])))
    return tmp_path


def test_a_run_by_variant_and_bits(folder):
    lines = to_markdown(pivot(read_arms(folder), "fvd_fp")).splitlines()
    assert lines[2] == "| FVD-FP ↓ | w8a8 | w4a8 |"
    assert lines[4] == "| naive | 2.50 [2.00, 3.00] | 2.50 [2.00, 3.00] |"
    assert lines[5] == "| qvd | 1.23 [1.00, 1.50] |  |"  # and no row for FP, which this metric compares with


def test_fp_has_a_row_where_it_has_the_metric(folder):
    table = pivot(read_arms(folder), "fvd")
    assert [column.header for column in table.columns] == ["FVD ↓", "fp", "w8a8", "w4a8"]
    assert table.rows[0][1].interval == (38.94, 44.0321)


def test_an_unknown_metric_names_the_known_ones(folder):
    with pytest.raises(ValueError, match=r"metric fdv: allowed are .*fvd"):
        pivot(read_arms(folder), "fdv")
