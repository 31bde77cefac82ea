"""TFMQ-DM: the Temporal Information Block learned on the timestep set alone, frozen, and calibrated per timestep."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from baselines.qdiffusion import QDiffusion, rounded_model
from baselines.tfmq import TFMQ, block_inputs, temporal_block
from experiments.config.nodes import build_node
from qvd.backends.convert import convert
from qvd.numerics.grids import TimestepGrid
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.rules import RangeMethod
from qvd.options.units import Reconstruction
from qvd.spec.quantization import LayerQuantization, Quantization
from tests.tiny_unet import context_of

CONFIG = Path(__file__).parents[2] / "conf" / "quantizer" / "tfmq.yaml"
TIMESTEPS = torch.arange(980, -1, -70)
QUICK = {
    "reconstruction": Reconstruction.none,
    "adaround": AdaRoundSettings(iterations=100, entries=2),
    "weight_range": RangeMethod.minmax,
    "activation_range": RangeMethod.minmax,
}


@pytest.fixture(scope="module")
def context(unet, adapter):
    return context_of(adapter, unet, "w4a8", TIMESTEPS)


@pytest.fixture(scope="module")
def quantizations(unet, ranges, calibration, context):
    block = ["time_embedding.*", "*.time_emb_proj"]
    methods = {
        "tfmq": TFMQ(**QUICK),
        "nearest": TFMQ(**QUICK, only=block, temporal_rounding=False),
        "corrected": TFMQ(**QUICK, only=block, bias_correction=True),
    }
    return {name: method.run(unet, ranges, calibration, context) for name, method in methods.items()}


def projections(unet, quantization, context):
    """Outputs of every projection of the time embedding at each timestep, weights rounded, joined."""
    block = temporal_block(context.anatomy)
    model = rounded_model(unet, replace(quantization, layers={n: quantization.layers[n] for n in block}))
    inputs, projecting = block_inputs(model, block, context), [n for n in block if n.endswith("time_emb_proj")]
    return torch.cat([model.get_submodule(name)(inputs[name]) for name in projecting], 1)


@torch.no_grad()
@pytest.mark.parametrize("learned", ["tfmq", "corrected"])
def test_learned_block_is_closer_at_every_timestep_taken_together(unet, quantizations, context, learned):
    unrounded = {name: LayerQuantization(name, "linear", "test") for name in temporal_block(context.anatomy)}
    exact = projections(unet, Quantization(unrounded, {}), context)
    errors = {n: (projections(unet, q, context) - exact).square().sum().item() for n, q in quantizations.items()}
    assert errors[learned] < 0.5 * errors["nearest"]


def test_each_layer_notes_both_errors_and_keeps_the_better(unet, quantizations, context):
    for name in temporal_block(context.anatomy):
        notes = quantizations["tfmq"].layers[name].notes
        assert notes["temporal_error_before"] >= 0 and notes["temporal_error_after"] >= 0
        learned, nearest = (quantizations[q].layers[name].weight.codes.int() for q in ("tfmq", "nearest"))
        assert (learned - nearest).abs().max() <= 1
        if notes["temporal_error_after"] >= notes["temporal_error_before"]:
            assert torch.equal(learned, nearest)


def test_ranges_are_the_extremes_at_each_timestep(unet, quantizations, context):
    """Sites behind the embedding see it as the quantized weights make it; the first sees exact sinusoids."""
    block = temporal_block(context.anatomy)
    layers = quantizations["tfmq"].layers
    exact = block_inputs(unet, block, context)
    first = layers["time_embedding.linear_1"].grid
    assert first.timesteps == tuple(TIMESTEPS.double().tolist())
    span = exact["time_embedding.linear_1"].amax(1).clamp(min=0) - exact["time_embedding.linear_1"].amin(1).clamp(max=0)
    torch.testing.assert_close(torch.tensor(first.scales), span / 255)
    model = rounded_model(unet, Quantization({n: layers[n] for n in block}, {}))
    feature = block_inputs(model, block, context)["mid_block.resnets.0.time_emb_proj"]
    scales = torch.tensor(layers["mid_block.resnets.0.time_emb_proj"].grid.scales)
    torch.testing.assert_close(scales, (feature.amax(1) - feature.amin(1).clamp(max=0)) / 255)
    assert {n for n, layer in layers.items() if isinstance(layer.grid, TimestepGrid)} == set(block)


@torch.no_grad()
def test_the_sampler_s_step_picks_its_range(unet, quantizations, calibration):
    model = convert(unet, quantizations["tfmq"])
    projection = model.get_submodule("mid_block.resnets.0.time_emb_proj")
    seen = {}
    projection.input_quantizer.register_forward_hook(lambda m, args, out: seen.update(x=args[0], x_hat=out))
    for number in (0, len(TIMESTEPS) - 1):
        model(**{**calibration.take([0]), "timestep": TIMESTEPS[number]})
        grid = quantizations["tfmq"].layers["mid_block.resnets.0.time_emb_proj"].grid.group(number)
        torch.testing.assert_close(seen["x_hat"], grid(seen["x"]))


def test_the_block_stays_while_other_blocks_are_learned(unet, ranges, calibration, context, quantizations):
    """Reconstruction of a residual block moves its convolutions, never its time embedding's projection."""

    blocks = {Reconstruction.block: ("mid_block.resnets.0",)}
    one = replace(context, anatomy=replace(context.anatomy, blocks=blocks))
    method = TFMQ(**{**QUICK, "reconstruction": Reconstruction.block})
    layers = method.run(unet, ranges, calibration, one).layers
    alone = quantizations["tfmq"].layers
    for name in temporal_block(context.anatomy):
        assert torch.equal(layers[name].weight.codes, alone[name].weight.codes)
    conv = "mid_block.resnets.0.conv1"
    assert not torch.equal(layers[conv].weight.codes, alone[conv].weight.codes)


@torch.no_grad()
def test_error_is_small(unet, ranges, calibration, adapter):
    context = context_of(adapter, unet, "w8a8", calibration.take(range(4))["timestep"])
    quantization = TFMQ(**QUICK).run(unet, ranges, calibration, context)
    entry = calibration.take([0, 1])
    reference = unet(**entry).sample
    assert (convert(unet, quantization)(**entry).sample - reference).norm() < 0.05 * reference.norm()


def test_bits_may_be_missing(unet, ranges, calibration, adapter):
    for bits in ("fp", "w4a16"):
        context = context_of(adapter, unet, bits, TIMESTEPS)
        quantization = TFMQ(**QUICK).run(unet, ranges, calibration, context)
        assert all(layer.is_float for layer in quantization.layers.values()) == (bits == "fp")


def test_config_and_its_errors():
    built = build_node(OmegaConf.load(CONFIG), "quantizer")
    assert isinstance(built, TFMQ) and isinstance(built, QDiffusion) and built.lsq.iterations == 0
    for options, message in (
        ({"adaround": {"iterations": 0}}, r"quantizer\.adaround\.iterations=0: must be positive"),
        ({"temporal_rounding": "perhaps"}, r"quantizer\.temporal_rounding"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            build_node(OmegaConf.merge(OmegaConf.load(CONFIG), options), "quantizer")
        assert "\n" not in str(error.value)
