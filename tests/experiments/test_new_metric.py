"""A new metric is one file with its declaration: evaluation, table, tracking and pivot then know it."""

import csv
import io
import json
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.pivot import pivot, read_arms
from experiments.progress import Reporter
from experiments.record import measured_record, metrics_document
from experiments.report.figures import build_figures
from experiments.report.table import build_table
from experiments.report.tabular import to_csv, to_markdown
from experiments.stages.evaluation import Evaluator
from experiments.tracking.wandb_run import flatten
from metrics import catalogue
from metrics.registry import declared_metrics
from qvd.data.shapes import Shapes
from qvd.store.artifacts import Store
from tests.experiments.arms import changed

N_VIDEOS = 12
DECLARATIONS = """
from metrics.declaration import Compared, Direction, MetricValue, Place, SetMetric, VideoMetric
from tests.experiments.arms import changed


def drift(sets):
    return MetricValue(float((sets.features.mean(0) - sets.fp_features.mean(0)).norm()))


BRIGHTNESS = VideoMetric(
    key="brightness",
    name="Brightness",
    unit="%",
    decimals=1,
    place=Place.TERMINAL,
    compute=lambda batch: batch.videos.float().flatten(1).mean(1) / 2.55,
)
DRIFT = SetMetric(key="drift", name="Drift", direction=Direction.lower, compares_with=Compared.fp, compute=drift)
"""


@contextmanager
def added(folder, monkeypatch, declarations=DECLARATIONS):
    """The declarations as a module of the catalogue, for as long as the context lasts."""
    (folder / "added.py").write_text(declarations)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "__path__", [*catalogue.__path__, str(folder)])
            declared_metrics.cache_clear()
            yield
    finally:
        sys.modules.pop(f"{catalogue.__name__}.added")
        del catalogue.added
        declared_metrics.cache_clear()


@pytest.fixture(scope="module")
def videos():
    """uint8 (12, 8, 3, 32, 32): clips, and the same darker."""
    clips = torch.from_numpy(np.stack([Shapes().clip(index).frames for index in range(N_VIDEOS)]))
    return clips, (clips * 0.8).to(torch.uint8)


def measure(videos, folder):
    """The metrics artifact of each set of videos, the first being FP's."""
    config = compose_run_config(["quantizer=naive", f"n_videos={N_VIDEOS}", "protocol.min_videos=8"])
    evaluator = Evaluator(config, Store(folder), Reporter(quiet=True))
    samples = [SimpleNamespace(key=str(i), videos=of_arm) for i, of_arm in enumerate(videos)]
    prompts = config.reference.prompts("evaluation", range(N_VIDEOS))
    return [evaluator.metrics(of_arm, samples[0], prompts) for of_arm in samples]


def measured(arms, artifacts):
    return [changed(arm, **a.metadata) for arm, a in zip(arms, artifacts, strict=True)]


def test_one_declaration_is_enough(arms, videos, tmp_path, monkeypatch):
    with added(tmp_path, monkeypatch):
        fp, darker = measure(videos, tmp_path / "store")
        expected = videos[1].float().flatten(1).mean(1) / 2.55
        assert torch.allclose(darker.tensors["brightness"], expected)
        low, high = darker.metadata["brightness_ci"]
        assert low < darker.metadata["brightness"] == darker.tensors["brightness"].double().mean().item() < high
        assert darker.metadata["drift"] > 0 and fp.metadata["drift"] is None and "drift_ci" not in fp.metadata

        results = measured(arms, [fp, darker])
        table = build_table(results)
        header, _, _, row = (line.split(" | ") for line in to_markdown(table).splitlines()[2:6])
        assert row[header.index("Brightness %")].startswith(f"{darker.metadata['brightness']:.1f} [")
        assert (
            "Drift ↓" in header
            and "n/a: FVD-FP, Moved, Tipped, KVD-FP, PSNR dB, SSIM, Drift: fp is what" in table.caption
        )
        cells = list(csv.DictReader(io.StringIO(to_csv(table))))[1]
        assert float(cells["brightness_low"]) == low and float(cells["drift"]) == darker.metadata["drift"]
        titles = [ax.get_title(loc="left") for ax in build_figures(results)["metrics"].axes]
        assert titles[-1] == "Brightness, %" and len(titles) == 5

        flat = flatten(measured_record(results[1]))
        assert flat["brightness_ci/high"] == high and flat["drift"] == darker.metadata["drift"]
        (tmp_path / "metrics.json").write_text(json.dumps(metrics_document(results)))
        assert pivot(read_arms(tmp_path), "brightness").rows[1][2].interval == (low, high)
    assert not {"brightness", "drift"} & {metric.key for metric in declared_metrics()}


def test_without_it_everything_is_as_before(arms, videos, tmp_path):
    (fp,) = measure(videos[:1], tmp_path)
    assert "brightness" not in fp.metadata and set(fp.tensors) == {"clipsim", "clip_temp", "flicker"}
    assert not any(fp.metadata[key] for key in ("fvd_fp", "fvd_fp_ci", "psnr_fp", "ssim_fp_ci", "lpips_fp"))
    assert {"n_videos", "n_reference", "warning", "fvd_inf_r_squared", "reference_skipped"} <= set(fp.metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("drift", "flicker"), "metric flicker: declared twice"),
        (('name="Drift"', 'name="Drift", ranks=True'), "ranks=True: must be one, got displacement_fp, drift"),
    ],
)
def test_a_wrong_declaration_is_refused(change, message, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=message), added(tmp_path, monkeypatch, DECLARATIONS.replace(*change)):
        declared_metrics()
