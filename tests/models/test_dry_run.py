"""A dry run goes through every stage with random weights in the true architecture."""

from dataclasses import replace

import pytest

from experiments.attributes import compose_run_config
from experiments.dry_run import main, stages_of
from qvd.models.options import DType, Init
from tests.models.conftest import FAMILIES

STAGES = ("FP sampling", "calibration set", "ranges", "quantization", "quantized sampling")


def test_every_stage_is_measured(monkeypatch, capsys):
    words = ["model=tiny_modelscope", "quantizer=naive", "model.batch_size=1"]
    monkeypatch.setattr("sys.argv", ["dry_run", *words])
    main()
    shown = capsys.readouterr()
    assert "random weights" in shown.out and "no quality" in shown.out
    assert all(f"{stage}" in shown.err for stage in STAGES) and shown.err.count(" GiB") == len(STAGES)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_in_bfloat16_with_random_weights(family, random_adapter, tmp_path):
    words = ["num_inference_steps=2", "quantizer.calibration.num_samples=1", "quantizer.calibration.num_steps=1"]
    model = replace(random_adapter(family), init=Init.random, dtype=DType.bfloat16, batch_size=1)
    config = replace(compose_run_config(words), model=model, n_videos=1)
    found = list(stages_of(config, tmp_path))
    assert [name.split(" (")[0] for name, _, _ in found] == list(STAGES)
    assert all(seconds > 0 and peak > 0 for _, seconds, peak in found)


def test_random_weights_are_seeded_and_marked():
    model = compose_run_config(["model=tiny_modelscope", "model.init=random"]).model
    assert model.fingerprint() == "random"
    one, other = (dict(model.random_pipeline().unet.named_parameters()) for _ in range(2))
    assert all(bool((one[name] == other[name]).all()) for name in one)
