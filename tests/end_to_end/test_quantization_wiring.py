"""Each arm is quantized from the FP model, its own calibration set and its own options."""

import pytest
import torch

from tests.end_to_end.independent import calls, input_extremes, load_pipeline
from tests.end_to_end.small_run import QUANTIZED, STEPS

LAYERS = (
    "conv_in",
    "up_blocks.1.resnets.1.conv2",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "conv_out",
)


@pytest.fixture(scope="module")
def pipeline(small_run):
    return load_pipeline(small_run)


@pytest.fixture(scope="module", params=QUANTIZED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def plan(small_run, name):
    """(samples, captured steps): written out here, as in the run's words."""
    return {"naive w8a8": (5, [0, 1]), "qvd w4a8": (3, [0])}[name]


@pytest.fixture(scope="module")
def entries(small_run, name):
    """The stored calibration set as one call of the denoiser."""
    stored = small_run.calibration(name).calibration_set("cpu")
    return stored.take(range(len(stored)))


@pytest.fixture(scope="module")
def watched(pipeline, plan):
    """What the FP denoiser is called with at these steps, while the calibration prompts are drawn from their noise."""
    samples, steps = plan
    recorded = calls(pipeline, range(samples), "calibration")
    assert len(recorded) == STEPS
    return [recorded[step][0] for step in steps]


def test_the_calibration_set_is_what_the_fp_denoiser_reads(entries, watched, plan):
    """Every (timestep, latents, text) once, both halves of guidance; latents and text are kept in bfloat16."""
    expected = []
    for (sample, timestep), arguments in watched:
        text = arguments["encoder_hidden_states"]
        expected += [(int(timestep), latents, words) for latents, words in zip(sample, text, strict=True)]
    assert len(entries["timestep"]) == len(expected) == 2 * plan[0] * len(plan[1])
    for timestep, latents, words in expected:
        same = (entries["timestep"] == timestep).nonzero().flatten()
        distances = torch.stack(
            [
                (entries["sample"][same] - latents).abs().amax((1, 2, 3, 4)),
                (entries["encoder_hidden_states"][same] - words).abs().amax((1, 2)),
            ]
        ).amax(0)
        assert distances.min() < 0.05, timestep


def test_ranges_are_those_of_the_arms_own_calibration_set(small_run, pipeline, name, entries):
    ranges = small_run.ranges(name)
    for layer, (low, high) in input_extremes(pipeline.unet, LAYERS, entries).items():
        assert (ranges[layer].low, ranges[layer].high) == pytest.approx((low, high), rel=1e-4, abs=1e-5), layer


def test_weights_are_the_fp_models_at_the_arms_bits(small_run, pipeline, name):
    """Nearest levels of at most 255 or 15 steps; SCRI's scales are part of what the layer reads."""
    n_bits = {"naive w8a8": 8, "qvd w4a8": 4}[name]
    for layer, quantized in small_run.quantization(name).layers.items():
        if quantized.rule != "default":
            continue
        assert quantized.weight.n_bits == n_bits and int(quantized.weight.codes.max()) < 2**n_bits
        original = pipeline.unet.get_submodule(layer).weight
        if quantized.scale is not None:
            original = original * quantized.scale.view(1, -1, *[1] * (original.dim() - 2))
        error = (quantized.weight.dequantize() - original).square().mean() / original.var()
        assert error < {8: 1e-4, 4: 0.03}[n_bits], layer


def test_naive_activation_ranges_are_the_extremes(small_run):
    """Min-max: from its own ranges straight into the map, with zero in them."""
    ranges, mapped = small_run.ranges("naive w8a8"), small_run.quantized("naive w8a8").metadata["map"]
    compared = [row for row in mapped if row["grid"] == "uniform" and row["activation_bits"] == 8]
    assert len(compared) > 100
    for row in compared:
        low, high = min(ranges[row["layer"]].low, 0), max(ranges[row["layer"]].high, 0)
        step = (high - low) / 255
        assert row["range"] == pytest.approx([low, high], abs=step), row["layer"]


def test_options_reach_their_arm_alone(small_run):
    bits = {
        arm: {
            row["layer"]: (row["weight_bits"], row["activation_bits"])
            for row in small_run.quantized(arm).metadata["map"]
        }
        for arm in QUANTIZED
    }
    attention = "mid_block.attentions.0.transformer_blocks.0.attn1"
    assert [bits[arm][f"{attention}.probabilities"] for arm in QUANTIZED] == [(None, 7), (None, 8)]
    assert [bits[arm][f"{attention}.to_out.0"] for arm in QUANTIZED] == [(8, 8), (6, 5)]
    assert [bits[arm][f"{attention}.to_q"] for arm in QUANTIZED] == [(8, 8), (4, 8)]
    layers, operands = small_run.quantization("naive w8a8").layers, small_run.quantization("naive w8a8").operands
    assert all(len(of_arm) == len(layers) + len(operands) for of_arm in bits.values())


def test_temporal_grids_are_made_for_the_runs_timesteps(small_run, pipeline):
    """HTDQ measures its grid on the temporal features of the sampler's whole timestep set, here of two."""
    pipeline.scheduler.set_timesteps(STEPS)
    unet = pipeline.unet
    with torch.no_grad():
        sinusoid = unet.time_proj(pipeline.scheduler.timesteps)
        features = torch.nn.functional.silu(unet.time_embedding(sinusoid))
    layers = small_run.quantization("qvd w4a8").layers
    temporal = [layer for name, layer in layers.items() if name.endswith(".time_emb_proj")]
    centred = features.double() - features.double().mean()
    skewness = (centred**3).mean() / (centred**2).mean() ** 1.5
    assert temporal
    for layer in temporal:
        assert layer.notes["skewness"] == pytest.approx(skewness.item(), rel=1e-3)
