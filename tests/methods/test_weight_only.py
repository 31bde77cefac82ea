"""Weights alone: every method leaves activations in floating point, unless a rule of the user asks for more."""

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from qvd.backends.convert import convert
from tests.tiny_unet import context_of

QUICK = {
    "qdiffusion": ["adaround.iterations=1", "adaround.entries=2", "adaround.sweeps=1", "lsq.iterations=0"],
    "tfmq": ["adaround.iterations=1", "adaround.entries=2", "adaround.sweeps=1"],
    "qvd": ["capture_rows=8"],
}
NAMES = sorted(path.stem for path in (CONF / "quantizer").glob("*.yaml") if path.stem != "fp")
QUANTIZERS = [pytest.param(name, marks=[pytest.mark.full] * (name in ("qdiffusion", "tfmq"))) for name in NAMES]
RULE = "quantizer.rules=[{pattern: mid_block.*.conv1, weight_bits: 8, activation_bits: 7}]"


def quantized(quantizer, bits, unet, ranges, calibration, adapter, *words):
    words = [f"quantizer={quantizer}", *(f"quantizer.{word}" for word in QUICK.get(quantizer, [])), *words]
    (arm,) = compose_run_config(words).arms
    timesteps = calibration.take(range(4))["timestep"]
    return arm.method.run(unet, ranges, calibration, context_of(adapter, unet, bits, timesteps))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_only_weights_are_rounded(quantizer, unet, ranges, calibration, adapter):
    quantization = quantized(quantizer, "w8afp", unet, ranges, calibration, adapter)
    assert not any(site.grid for site in (*quantization.layers.values(), *quantization.operands.values()))
    assert sum(layer.weight is not None for layer in quantization.layers.values()) > 20
    entry = calibration.take([0, 1])
    with torch.no_grad():
        exact = unet(**entry).sample
        error = convert(unet, quantization)(**entry).sample - exact
    assert 0 < error.norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_rule_still_quantizes_an_input(quantizer, unet, ranges, calibration, adapter):
    quantization = quantized(quantizer, "w4a16", unet, ranges, calibration, adapter, RULE)
    with_grid = {name: layer.grid.n_bits for name, layer in quantization.layers.items() if layer.grid is not None}
    assert with_grid == {name: 7 for name in quantization.layers if name.startswith("mid_") and name.endswith("conv1")}
