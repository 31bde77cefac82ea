"""QVD's variants are what conf/quantizer/qvd.yaml says, and `released` quantizes as its public port does."""

import pytest
import torch

from experiments.attributes import compose_run_config
from qvd import api
from qvd.graph.sites import weighted_layers
from qvd.methods.qvd import QVD
from qvd.numerics.grids import AffineGrid, FrameGrid, Log2Grid
from qvd.options.calibration import CalibrationPlan
from qvd.options.htdq import HtdqForm
from qvd.options.qvd import QVDVariant
from qvd.options.rules import ActivationGranularity, RangeMethod, RangeReduction
from qvd.options.scri import ScriMode
from qvd.options.units import Reconstruction

STEPS = 3


def method(*words):
    (arm,) = compose_run_config(["model=tiny_animatediff", f"num_inference_steps={STEPS}", *words]).arms
    return arm.method


def test_without_a_word_it_is_ours():
    assert compose_run_config([]).arms[0].method == QVD()


def test_what_each_variant_sets():
    paper, released = (
        compose_run_config([f"quantizer.variant={variant}"]).arms[0].method for variant in ("paper", "released")
    )
    common = {"softmax_bits": 8, "p_norm": 2.4}
    assert paper == QVD(
        name="qvd-paper",
        variant=QVDVariant.paper,
        scri=ScriMode.paper,
        htdq=HtdqForm.mixed,
        bias_correction=False,
        **common,
    )
    assert released == QVD(
        name="qvd-released",
        variant=QVDVariant.released,
        calibration=CalibrationPlan(num_samples=1, num_steps=None),
        weight_range=RangeMethod.minmax,
        activation_range=RangeMethod.lp,
        activation_symmetric=True,
        activation_granularity=ActivationGranularity.batch_frame,
        range_candidates=50,
        range_reduction=RangeReduction.mean,
        scri=ScriMode.shift,
        htdq=HtdqForm.log2_first,
        bias_correction=False,
        border_correction=False,
        **common,
    )


def test_a_variant_is_an_arm_of_its_own_and_what_is_given_by_hand_wins():
    entry = "{quantizer: qvd, bits: w8a8, options: {variant: VARIANT, p_norm: 2.0}}"
    arms = ", ".join(entry.replace("VARIANT", variant) for variant in ("ours", "paper", "released"))
    run = compose_run_config([f"experiment.arms=[{arms}]"])
    assert [arm.name for arm in run.arms] == ["qvd w8a8", "qvd-paper w8a8", "qvd-released w8a8"]
    assert {arm.method.p_norm for arm in run.arms} == {2.0}
    repeated = compose_run_config(list(run.arms[2].overrides)).arms[0]
    assert (repeated.name, repeated.method) == (run.arms[2].name, run.arms[2].method)
    changed = method("quantizer.variant=released", "quantizer.bias_correction=true", "quantizer.scri=off")
    assert changed.bias_correction and changed.scri is ScriMode.off and not changed.border_correction


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["variant=relased"], r"variant=relased: allowed are ours, paper, released \(did you mean released\?\)"),
        (["variant=released", "scri=guarded"], "scri=guarded: quantizer.variant=released has no such; .*shift, off"),
        (["variant=released", "htdq=auto"], "htdq=auto: quantizer.variant=released has no such"),
        (["variant=paper", "scri=guarded"], "scri=guarded: quantizer.variant=paper has no such"),
        (["variant=paper", "reconstruction=block"], "reconstruction=block: quantizer.variant=paper .*allowed are none"),
        (["range_candidates=101"], "range_candidates=101: must be in 1…100"),
        (
            ["activation_granularity=token", "range_reduction=mean"],
            "range_reduction=mean: a token's range is taken at run time; allowed is joint",
        ),
    ],
)
def test_what_a_variant_does_not_have_is_refused_in_one_line(words, message):
    with pytest.raises(ValueError, match=message) as error:
        method(*(f"quantizer.{word}" for word in words))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def animatediff():
    """The embedded model, what one clip's calibration saw of it, and its quantization as released."""
    model = api.load_model("tiny_animatediff", num_frames=8, guidance_scale=3.0)
    calibration = api.calibrate(model, ["a red circle moving left on a plain background"], num_inference_steps=STEPS)
    released = method("quantizer.variant=released")
    return model, calibration, api.quantize(model, calibration, "w8a8", released)


def test_released_has_one_static_scale_for_each_frame_index(animatediff):
    """In what reads frames as a batch; motion modules, whose batch are pixels, have one."""
    model, _, quantization = animatediff
    rows = {row["layer"]: row for row in quantization.map}
    temporal = {site for site in rows if site.endswith("time_emb_proj")}
    boundary = model.adapter.anatomy(model.denoiser).boundary
    for name, site in {**quantization.layers, **quantization.operands}.items():
        notes = rows[name]["notes"]
        if name in temporal:
            assert rows[name]["grid"] == "log2" and isinstance(site.grid, Log2Grid) and site.grid.has_zero
        elif "motion_modules" in name or "time_embedding" in name:
            assert isinstance(site.grid, AffineGrid), name
            assert notes["granularity"] == "tensor (no frame axis)" and notes["range_reduction"] == "mean"
        else:
            assert isinstance(site.grid, FrameGrid), name
            assert site.grid.frame_dim == 0 and len(site.grid.scales) == 8
            assert notes["granularity"] == "batch_frame"
    assert temporal and any("motion_modules" in name for name in rows)
    assert len(set(quantization.layers[boundary.last[0]].grid.scales)) == 8


def test_released_shifts_everything_else_and_scales_nothing(animatediff):
    model, calibration, quantization = animatediff
    boundary = model.adapter.anatomy(model.denoiser).boundary
    for name, layer in quantization.layers.items():
        assert layer.scale is None and layer.border is None, name
        assert (layer.shift is None) == (name.endswith("time_emb_proj") or name in (*boundary.first, *boundary.last))
        if layer.shift is not None:
            seen = calibration.ranges[name]
            torch.testing.assert_close(layer.shift, (seen.channel_min + seen.channel_max) / 2)
            assert layer.notes["max_scale"] == 1


def test_released_weights_are_asymmetric_minmax_and_symmetric_inputs_take_both_signs(animatediff):
    model, _, quantization = animatediff
    for name, layer in weighted_layers(model.denoiser).items():
        spec, rows = quantization.layers[name], layer.weight.float().flatten(1)
        span = rows.amax(1).clamp(min=0) - rows.amin(1).clamp(max=0)
        torch.testing.assert_close(spec.weight.scale, span / 255, rtol=1e-5, atol=1e-12)
        if isinstance(spec.grid, FrameGrid):
            assert set(spec.grid.zero_points) <= {0.0, 128.0, 255.0}, name
    for name, operand in quantization.operands.items():
        if name.endswith(".probabilities") and isinstance(operand.grid, FrameGrid):
            assert set(operand.grid.zero_points) == {0.0}, name


@torch.no_grad()
def test_released_runs_and_on_small_latents_its_borders_alone_ruin_it(animatediff):
    """On 8 × 8 latents and below most taps of a convolution see a border; corrected there, the rest is close."""
    model, calibration, quantization = animatediff
    corrected = method("quantizer.variant=released", "quantizer.border_correction=true")
    entries = calibration.captured.take([0, 1])
    expected = model.denoiser(**entries).sample
    errors = [
        (api.convert(model.denoiser, q)(**entries).sample - expected).norm() / expected.norm()
        for q in (quantization, api.quantize(model, calibration, "w8a8", corrected))
    ]
    assert 0 < errors[1] < 0.1 < errors[0]


def test_reconstruction_is_ours_alone():
    assert QVD(reconstruction=Reconstruction.block).variant is QVDVariant.ours
