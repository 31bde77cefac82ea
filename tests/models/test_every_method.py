"""Every method quantizes every family, from calibration to a denoiser that runs."""

from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import nn

from experiments.attributes import compose_run_config
from qvd.backends.convert import convert
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.capture import capture_calibration_batch
from qvd.calibration.observe import observe
from qvd.calibration.observers import Ranges
from qvd.graph.sites import weighted_layers
from qvd.models.base import ModelAdapter
from qvd.models.loading import load_pipeline
from qvd.options.calibration import CalibrationPlan
from tests.models.conftest import FAMILIES
from tests.tiny_unet import context_of

STEPS = 2
DEFAULT_TIER = {"modelscope": "smoothquant", "animatediff": "vidit_q", "latte": "qvd", "latte_class": "ptq4dm"}
LEARNING = [f"adaround.{key}" for key in ("iterations=1", "entries=2", "sweeps=1")]
OPTIONS = {
    "naive": [],
    "ptq4dm": [],
    "qdiffusion": [*LEARNING, "lsq.iterations=1", "lsq.entries=2"],
    "tfmq": LEARNING,
    "smoothquant": [],
    "vidit_q": [],
    "qvd": ["capture_rows=8", "tau_candidates=1"],
}


class Case(NamedTuple):
    adapter: ModelAdapter
    denoiser: nn.Module
    calibration: CalibrationSet
    ranges: Ranges
    timesteps: torch.Tensor


@pytest.fixture(scope="module")
def case(request, random_adapter):
    adapter = replace(random_adapter(request.param), batch_size=2)
    pipeline = load_pipeline(adapter, "cpu")
    prompts, plan = ["a red circle moving left on a plain background"] * 2, CalibrationPlan(2, STEPS)
    captured = capture_calibration_batch(
        adapter, pipeline, prompts, range(2), seed=0, num_inference_steps=STEPS, plan=plan
    )
    denoiser, calibration = adapter.denoiser(pipeline), CalibrationSet.from_tensors(captured)
    return Case(adapter, denoiser, calibration, observe(denoiser, calibration, 4), adapter.timesteps(pipeline, STEPS))


def parameters():
    for family, quantizer in product(FAMILIES, OPTIONS):
        marks = () if DEFAULT_TIER[family] == quantizer else pytest.mark.full
        yield pytest.param(family, quantizer, marks=marks, id=f"{family}-{quantizer}")


@pytest.mark.parametrize(("case", "quantizer"), parameters(), indirect=["case"], scope="module")
def test_quantizes_and_runs(case, quantizer):
    words = [f"quantizer={quantizer}", *(f"quantizer.{word}" for word in OPTIONS[quantizer])]
    method = compose_run_config(words).arms[0].method
    context = context_of(case.adapter, case.denoiser, "w6a8", case.timesteps)
    quantization = method.run(case.denoiser, case.ranges, case.calibration, context)
    assert set(quantization.layers) == set(weighted_layers(case.denoiser))
    plan = method.site_bits(case.denoiser, context)
    for name, layer in quantization.layers.items():
        weight, grid = layer.weight and layer.weight.n_bits, layer.grid and layer.grid.n_bits
        assert (weight, grid) == (plan[name].weight, plan[name].activation), name
    entries = case.calibration.take([0, 1, 2])
    with torch.no_grad():
        expected = case.denoiser(**entries).sample
        error = convert(case.denoiser, quantization)(**entries).sample - expected
    assert 0 < error.square().mean() < 0.1 * expected.square().mean()
