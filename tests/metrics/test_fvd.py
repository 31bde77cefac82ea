"""FVD as a report and as a metric; equality to torchmetrics' and torch-fidelity's distances on the same features."""

import json
from pathlib import Path

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from metrics.catalogue.fvd import FVD, FVD_FP, FVD_INFINITY
from metrics.catalogue.kvd import KVD, KVD_FP
from metrics.extractors.base import extract_features
from metrics.frechet import frechet_distance
from metrics.fvd import FrechetVideoDistance, fvd_report
from metrics.inputs import FeatureSets
from metrics.intervals import infinity_interval
from metrics.kernel import KernelDistance, kernel_distance
from metrics.measure import measure_sets


def gaussian(n, d, seed, shift=0.0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype) + shift


def test_report():
    report = fvd_report(gaussian(400, 16, 0, shift=1), gaussian(300, 16, 1), replicates=100)
    assert set(report) >= {"fvd", "fvd_inf", "fvd_ci", "n_videos"}
    assert (report["n_videos"], report["n_reference"]) == (400, 300)
    low, high = report["fvd_ci"]
    assert low < report["fvd"] < high
    assert report["fvd_inf"] == pytest.approx(16, abs=1) and report["fvd_inf"] < report["fvd"]
    assert report["warning"] == "fvd is biased upwards: 300 videos, fewer than 2048"
    few = fvd_report(gaussian(31, 16, 0), gaussian(40, 16, 1), replicates=10)
    assert "fvd_inf is too high: fewer than 32 videos" in few["warning"]


def test_no_warning_with_enough_videos():
    assert fvd_report(gaussian(2048, 2, 0), gaussian(2048, 2, 1), replicates=2)["warning"] is None


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["as is", "reversed"])
@pytest.mark.parametrize("paired", [False, True])
def test_a_set_against_itself_is_zero(order, paired):
    """Fewer videos than dimensions, large features: what the estimators make of it was −25034 and [−188, 121]."""
    x = 50 * gaussian(24, 40, 0)
    y = torch.from_numpy(x.numpy()[order].copy())
    report = fvd_report(x, y, replicates=20, paired=paired)
    assert (report["fvd"], report["fvd_inf"], report["fvd_inf_r_squared"]) == (0, 0, None)
    assert report["fvd_ci"] == [0, 0] == list(infinity_interval(x, y, replicates=3, paired=paired))
    assert report["warning"] == "both sides are the same 24 videos"
    assert kernel_distance(x, y, paired) == KernelDistance(0, 0, (0, 0))


def test_metrics_of_an_arm_that_changes_nothing_are_zero():
    x = 50 * gaussian(24, 40, 0)
    metrics = [FVD, FVD_INFINITY, FVD_FP, KVD, KVD_FP]
    values = measure_sets(metrics, FeatureSets(features=x, fp_features=x, reference=x))
    assert [value.value for value in values.values()] == [0] * len(metrics)
    assert [value.interval for value in values.values()] == [(0, 0)] * len(metrics)
    warnings = [line for value in values.values() for line in value.warnings]
    assert warnings == ["both sides are the same 24 videos", "fvd_fp is 0: both sides are the same 24 videos"]


def test_sets_that_differ_in_one_row_are_not_the_same():
    x = gaussian(24, 40, 0)
    y = x.clone()
    y[3, 39] += 1
    assert fvd_report(x, y, replicates=2)["fvd"] > 0 and "biased" in fvd_report(x, y, replicates=2)["warning"]


def test_report_of_too_few_videos():
    with pytest.raises(ValueError, match="7 generated against 9 reference videos: need at least 8"):
        fvd_report(gaussian(7, 4, 0), gaussian(9, 4, 1))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_metric_equals_function_and_resets(extractor, videos):
    real, generated = videos
    metric = FrechetVideoDistance(extractor, reset_real_features=False)
    for batch in real.split(5):
        metric.update(batch, real=True)
    metric.update(generated, real=False)
    expected = frechet_distance(extract_features(extractor, generated.split(7)), extract_features(extractor, [real]))
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
    assert metric.report(replicates=10)["fvd"] == pytest.approx(expected, rel=1e-6)
    metric.reset()
    metric.update(real, real=False)
    assert float(metric.compute()) == pytest.approx(0, abs=1e-6)
    metric.reset_real_features = True
    metric.reset()
    with pytest.raises(ValueError, match="0 videos are too few"):
        metric.compute()


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_equals_torchmetrics(extractor, videos):
    ours = FrechetVideoDistance(extractor)
    fid = FrechetInceptionDistance(feature=extractor).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=extractor, subsets=1, subset_size=24)
    for batch, real in zip(videos, (True, False), strict=True):
        for metric in (ours, fid, kid):
            metric.update(batch, real=real)
    assert float(ours.compute()) == pytest.approx(float(fid.compute()), rel=1e-6)
    real, generated = (extract_features(extractor, [batch]) for batch in videos)
    assert kernel_distance(generated, real).value == pytest.approx(float(kid.compute()[0]), rel=1e-4)


GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "torch_fidelity.json").read_text())["cases"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"{c['n']}x{c['d']}")
def test_equals_torch_fidelity(case):
    """Against values stored from torch-fidelity, which cannot be imported beside torchmetrics without torchvision."""
    a = gaussian(case["n"], case["d"], 0, dtype=torch.float64) * torch.linspace(0.2, 2, case["d"], dtype=torch.float64)
    b = gaussian(case["m"], case["d"], 1, shift=0.3, dtype=torch.float64)
    fewest = min(case["n"], case["m"])
    tolerance = {"rel": 1e-6} if fewest >= 2 * case["d"] else {"abs": 1e-4}
    assert frechet_distance(a, b) == pytest.approx(case["fid"], **tolerance)
    assert kernel_distance(a[:fewest], b[:fewest]).value == pytest.approx(case["kid"], rel=1e-6)


def test_extractor_rejects_what_it_cannot_take(extractor):
    with pytest.raises(ValueError, match="tiny takes uint8"):
        extractor(torch.zeros(1, 4, 3, 8, 8))
    with pytest.raises(ValueError, match="tiny needs at least 2 frames, got 1"):
        extractor(torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8))


def test_copies_on_the_other_side_are_said():
    """A part of the same videos, or all of them encoded once more: no distance to be read."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 64, generator=generator)
    again = x + 0.02 * torch.randn(24, 64, generator=generator)
    for copies, count in ((x[:20], 20), (again, 24)):
        warning = fvd_report(x, copies)["warning"]
        assert warning.startswith(f"{count} of 24 videos are on both sides, or nearly: ")
        assert "fvd_inf is too low" in warning and "too high" not in warning
    others = torch.randn(24, 64, generator=generator)
    assert "both sides" not in fvd_report(x, others)["warning"]
    assert "both sides" not in fvd_report(x, torch.cat([x[:2], others]))["warning"]
