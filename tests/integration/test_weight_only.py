"""A run whose arms have no activation ranges to draw, and no grid of temporal features to look into."""

import json

import pytest

from experiments.attributes import compose_run_config
from experiments.experiment import run_experiment
from experiments.progress import Reporter
from experiments.stages.figure_stage import StudiedArm, _temporal, choose_studied
from experiments.stages.stages import Stages
from qvd.spec.quantization import LayerQuantization, Quantization
from qvd.store.artifacts import Store

OPTIONS = "{calibration: {num_samples: 1, num_steps: 1}, capture_rows: 8, tau_candidates: 1, htdq: uniform}"
WORDS = ["workers=1", "n_videos=8", "protocol.min_videos=8", "num_inference_steps=2", "tracking=disabled"]


@pytest.mark.full
def test_a_weight_only_run_has_every_other_figure(tmp_path):
    words = [*WORDS, f"store={tmp_path}/store"]
    words += [f"experiment.arms=[{{quantizer: qvd, bits: w4afp, options: {OPTIONS}}}]"]
    run_experiment(compose_run_config(words), tmp_path / "run", "", words)
    arms = json.loads((tmp_path / "run" / "metrics.json").read_text())["arms"]
    assert list(arms) == ["fp", "qvd w4a16"] and arms["qvd w4a16"]["psnr_fp"] > 20
    assert arms["qvd w4a16"]["model_bytes"]["stored"] < 0.4 * arms["fp"]["model_bytes"]["stored"]
    report = (tmp_path / "run" / "report.html").read_text()
    assert 'alt="sqnr"' in report and 'alt="ranges"' not in report and "temporal levels" not in report


def test_of_temporal_features_in_floating_point_nothing_is_drawn(tmp_path):
    config = compose_run_config([*WORDS, "quantizer.calibration.num_steps=1", f"store={tmp_path}"])
    stages = Stages(config, Store(config.store), Reporter(quiet=True))
    sites = config.model.temporal_features(stages.fp_denoiser, config.model.timesteps(stages.pipeline, 2))
    floating = Quantization({name: LayerQuantization(name, "linear", "rules[0]") for name in sites}, {})
    assert _temporal(stages, config.arms[0], floating) == {}


def test_the_studied_arm_quantizes_activations():
    arms = compose_run_config(["experiment.arms=[{quantizer: qvd, bits: [w4a16, w8a8, w4a6]}]"]).arms
    studied = [StudiedArm(arm, None, None) for arm in arms]
    assert choose_studied(studied) is studied[2] and choose_studied(studied[:1]) is None
