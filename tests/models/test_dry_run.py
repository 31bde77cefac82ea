"""A dry run goes through every stage with random weights in the true architecture."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.attributes import compose_run_config
from experiments.dry_run import DEFAULTS, differences, main, stages_of
from experiments.float32_layers import Float32Layers, fastest_layers
from qvd.options.model import DType, Init
from tests.end_to_end.choices import with_model
from tests.models.conftest import FAMILIES

STAGES = ("FP sampling", "calibration set", "ranges", "quantization", "quantized sampling")


def test_every_stage_is_measured(monkeypatch, capsys):
    words = ["model=tiny_modelscope", "quantizer=naive", "model.batch_size=1"]
    monkeypatch.setattr("sys.argv", ["dry_run", *words])
    main()
    shown = capsys.readouterr()
    assert "random weights" in shown.out and "no quality" in shown.out
    assert "num_inference_steps=1 instead of 10" in shown.out
    assert all(f"{stage}" in shown.err for stage in STAGES) and shown.err.count(" GiB") == len(STAGES)


def test_the_table_names_what_differs_from_the_config():
    words = ["model=modelscope", "model.resolution=128", "model.guidance_scale=9.0", "quantizer.capture_rows=64"]
    found = differences([*words, *(f"{key}={value}" for key, value in DEFAULTS.items())])
    assert found == [
        "model.resolution=128 instead of 256",
        "quantizer.capture_rows=64 instead of 512",
        "model.init=random instead of pretrained",
        "num_inference_steps=1 instead of 50",
        "quantizer.calibration.num_samples=1 instead of 64",
        "quantizer.calibration.num_steps=1 instead of 10",
    ]


@pytest.mark.full
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_in_bfloat16_with_random_weights(family, random_adapter, tmp_path):
    words = [f"{key}={value}" for key, value in DEFAULTS.items()]
    model = replace(random_adapter(family), init=Init.random, dtype=DType.bfloat16, batch_size=1)
    config = replace(with_model(compose_run_config(words), model), n_videos=1)
    with Float32Layers():
        found = list(stages_of(config, tmp_path))
    assert [name.split(" (")[0] for name, _, _ in found] == list(STAGES)
    assert all(seconds > 0 and peak > 0 for _, seconds, peak in found)


def test_random_weights_are_seeded_and_marked():
    model, latte = (
        compose_run_config([f"model={m}", "model.init=random"]).model for m in ("tiny_modelscope", "tiny_latte")
    )
    assert model.fingerprint().startswith("random ") and model.fingerprint() != latte.fingerprint()
    one, other = (dict(model.random_pipeline().unet.named_parameters()) for _ in range(2))
    assert all(bool((one[name] == other[name]).all()) for name in one)


LAYERS = {
    "linear": (nn.Linear(40, 24), (5, 40)),
    "conv2d": (nn.Conv2d(8, 6, 3, padding=1), (2, 8, 9, 9)),
    "conv3d": (nn.Conv3d(8, 6, (3, 1, 1), padding=(1, 0, 0)), (1, 8, 5, 4, 4)),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_widened_layers_round_the_exact_output_once(name, dtype):
    layer, shape = LAYERS[name]
    layer, x = copy.deepcopy(layer).to(dtype), torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    plain = layer(x)
    with Float32Layers():
        found = layer(x)
    assert found.dtype is plain.dtype is dtype and layer.weight.dtype is dtype
    if dtype is torch.float32:
        assert torch.equal(found, plain)
    else:
        assert torch.equal(found, layer.float()(x.float()).to(dtype))


def test_a_gpu_is_left_alone():
    with fastest_layers("cuda") as widened:
        assert not widened
