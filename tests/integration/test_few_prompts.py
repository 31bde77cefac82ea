"""However few prompts it calibrates on, QVD keeps up with naive quantization of the same ranges and correction."""

import pytest
import torch

from experiments.attributes import compose_run_config
from qvd import api

STEPS, SEED, VIDEOS, MOST_LOST = 4, 7, 32, 0.5  # dB


@pytest.fixture(scope="module", params=["tiny_latte", "tiny_modelscope"])
def case(request):
    """The model, its prompts and its videos in floating point."""
    words = [f"model={request.param}", f"num_inference_steps={STEPS}", "quantizer.calibration.num_steps=1"]
    run = compose_run_config(words)
    model = api.Model(run.model, api.load(run.model, "cpu", prompt="a"))
    prompts = run.reference.prompts("evaluation", range(VIDEOS))
    return run, model, prompts, model.sample(prompts, SEED, STEPS)


def psnr(videos, reference):
    """Mean over videos, in dB."""
    error = (videos.double() - reference.double()).div(255).square().flatten(1).mean(1)
    return -10 * error.log10().mean().item()


@pytest.mark.full
@pytest.mark.parametrize("num_prompts", [1, 4, 16])
def test_never_half_a_decibel_below_naive_matched(case, num_prompts):
    run, model, prompts, reference = case
    seen = run.reference.prompts("calibration", range(num_prompts))
    calibration, original, found = api.calibrate(model, seen, SEED, STEPS), model.denoiser, {}
    for name in ("qvd", "naive_matched"):
        (arm,) = compose_run_config([f"quantizer={name}"]).arms
        model.denoiser = api.convert(original, api.quantize(model, calibration, "w8a8", arm.method))
        found[name] = psnr(model.sample(prompts, SEED, STEPS), reference)
        model.denoiser = original
    assert torch.isfinite(torch.tensor(list(found.values()))).all()
    assert found["qvd"] > found["naive_matched"] - MOST_LOST, found
