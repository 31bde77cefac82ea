"""PTQ4DM: symmetric everywhere, 100 thresholds, their running average, and its two timestep distributions."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from baselines.options import Variant
from baselines.ptq4dm import PTQ4DM
from experiments.config.nodes import build_node
from qvd.algorithms.reduction import AveragedRange
from qvd.backends.convert import convert
from qvd.graph.anatomy import BoundaryLayers
from qvd.numerics.affine import fake_quantize
from qvd.options.bits import Bits
from qvd.options.calibration import CalibrationPlan, TimestepChoice
from qvd.spec.rules import SiteBits
from tests.tiny_unet import context_of

CONFIG = Path(__file__).parents[2] / "conf" / "quantizer" / "ptq4dm.yaml"


@pytest.fixture(scope="module")
def quantization(unet, ranges, calibration, adapter):
    context = context_of(adapter, unet, "w8a8", torch.arange(10))
    return PTQ4DM(batch_size=2).run(unet, ranges, calibration, context)


def test_every_quantizer_is_symmetric(quantization, ranges):
    for name, layer in quantization.layers.items():
        assert (layer.weight.zero_point == 128).all()
        assert layer.grid.zero_point == (128 if ranges[name].low < 0 else 0)
    for name, operand in quantization.operands.items():
        assert operand.grid.zero_point == (0 if name.endswith(".probabilities") else 128)


def test_first_and_last_layer_keep_eight_bits(unet, ranges, calibration, adapter):
    context = context_of(adapter, unet, "w4a6", torch.arange(10))
    layers = PTQ4DM().run(unet, ranges, calibration, context).layers
    bits = {name: (layer.weight.n_bits, layer.grid.n_bits) for name, layer in layers.items()}
    assert bits.pop("conv_in") == bits.pop("conv_out") == (8, 8)
    assert set(bits.values()) == {(4, 6)}


@pytest.mark.parametrize(("bits", "expected"), [("w4a6", (8, 8)), ("w8a16", (8, None)), ("w2a12", (8, 12))])
def test_first_and_last_layer_never_lose_bits(bits, expected):
    boundary = BoundaryLayers(first=("conv_in",), last=("conv_out",), embedders=("embedder",))
    exceptions = PTQ4DM().exceptions(boundary, Bits.parse(bits))
    assert exceptions == {"conv_in": SiteBits(*expected, "first layer"), "conv_out": SiteBits(*expected, "last layer")}


@torch.no_grad()
def test_error_is_small(unet, calibration, quantization):
    entry = calibration.take([0, 1])
    reference = unet(**entry).sample
    assert (convert(unet, quantization)(**entry).sample - reference).norm() < 0.1 * reference.norm()


def test_a_batchs_threshold_is_the_best_of_a_hundred():
    """Against the search written out on the values themselves, the best threshold lying below the usual 80's."""
    x = torch.cat([torch.randn(20000, generator=torch.Generator().manual_seed(0)), torch.tensor([40.0])])
    average = AveragedRange(3, PTQ4DM().settings, 0.9)
    average.update(x)
    errors = []
    for i in range(100):
        scale = (1 - 0.01 * i) * 40 / 3
        errors.append((fake_quantize(x, scale, 4, 3) - x).abs().pow(2.4).mean())
    best = int(torch.stack(errors).argmin())
    assert PTQ4DM().range_candidates == len(errors) and best >= 80
    assert average.grid.scale == pytest.approx((1 - 0.01 * best) * 40 / 3, rel=0.02)


def test_thresholds_are_averaged_with_the_stated_momentum():
    first, second = torch.linspace(-1, 1, 500), torch.linspace(-3, 3, 500)
    average = AveragedRange(8, PTQ4DM().settings, 0.9)
    alone = []
    for x in (first, second):
        single = AveragedRange(8, PTQ4DM().settings, 0.9)
        single.update(x)
        alone.append(single.grid.scale)
        average.update(x)
    assert average.grid.scale == pytest.approx(0.9 * alone[0] + 0.1 * alone[1])


def test_every_input_and_operand_has_the_average_over_batches(unet, ranges, calibration, adapter):
    """With another momentum other batches count."""
    context = context_of(adapter, unet, "w8a8", torch.arange(10))
    site = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    few = {"only": [f"{site}.*"], "batch_size": 1}
    new, old = (PTQ4DM(momentum=m, **few).run(unet, ranges, calibration, context) for m in (0.0, 0.99))
    assert new.layers[f"{site}.to_q"].grid.scale != old.layers[f"{site}.to_q"].grid.scale
    assert all(new.operands[f"{site}.{x}"].grid.scale != old.operands[f"{site}.{x}"].grid.scale for x in "qkv")


def test_variants_draw_differently_and_uniform_stays():
    assert PTQ4DM().calibration.timesteps is TimestepChoice.ndtc_paper
    assert PTQ4DM(variant=Variant.released).calibration.timesteps is TimestepChoice.ndtc_released
    ablation = PTQ4DM(calibration=CalibrationPlan(8, 2))
    assert ablation.calibration.timesteps is TimestepChoice.uniform


def built(**options):
    return build_node(OmegaConf.merge(OmegaConf.load(CONFIG), options), "quantizer")


def test_config_names_the_variant():
    assert built() == PTQ4DM()
    assert built(variant="released").calibration.timesteps is TimestepChoice.ndtc_released
    assert built(calibration={"timesteps": "uniform"}).calibration.timesteps is TimestepChoice.uniform


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"quantizer\.momentum=1\.0: must be in \[0, 1\)"),
        ({"batch_size": 0}, r"quantizer\.batch_size=0: must be at least 1"),
        ({"variant": "both"}, r"quantizer\.variant.*both"),
        ({"calibration": {"ndtc_mean": 0.7}}, r"quantizer\.calibration\.ndtc_mean=0\.7: must be in"),
        ({"calibration": {"timesteps": "normal"}}, r"quantizer\.calibration\.timesteps.*normal"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        built(**options)
    assert "\n" not in str(error.value)
