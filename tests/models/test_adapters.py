"""Every family keeps the adapter's promises, on random weights loaded by path, as do the models that ship."""

import shutil
from dataclasses import replace

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from qvd.backends.convert import convert
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.capture import capture_calibration_batch
from qvd.graph.absorb import absorbing_norms
from qvd.graph.attention import explicit_attention_
from qvd.graph.sites import weighted_layers
from qvd.graph.units import unit_layers
from qvd.models.loading import load_pipeline
from qvd.models.sampling import sample_batch
from qvd.options.calibration import CalibrationPlan
from qvd.options.units import Reconstruction
from qvd.spec.quantization import Quantization
from tests.models.conftest import FAMILIES

SHIPPED = sorted(path.stem for path in (CONF / "model").glob("tiny_*.yaml"))
PROMPTS = ["a red circle moving left on a plain background", "a blue cross growing on a striped background"]


@pytest.fixture(scope="module", params=[*FAMILIES, *(pytest.param(name, marks=pytest.mark.full) for name in SHIPPED)])
def adapter(request, random_adapter):
    if request.param in FAMILIES:
        return random_adapter(request.param)
    return compose_run_config([f"model={request.param}"]).model


@pytest.fixture(scope="module")
def pipeline(adapter):
    return load_pipeline(adapter, "cpu")


@pytest.fixture(scope="module")
def entries(adapter, pipeline):
    """Two real denoiser inputs, an unconditional and a conditional one."""
    plan = CalibrationPlan(1, 1)
    captured = capture_calibration_batch(
        adapter, pipeline, PROMPTS[:1], range(1), seed=0, num_inference_steps=4, plan=plan
    )
    return CalibrationSet.from_tensors(captured).take([0, 1])


def test_samples_have_the_promised_geometry_and_ignore_the_batch(adapter, pipeline):
    both = sample_batch(adapter, pipeline, PROMPTS, range(2), seed=0, split="evaluation", num_inference_steps=2)
    assert both.shape == (2, adapter.num_frames, 3, adapter.resolution, adapter.resolution)
    assert both.dtype == torch.uint8 and both.float().std() > 1
    alone = sample_batch(adapter, pipeline, PROMPTS[1:], range(1, 2), seed=0, split="evaluation", num_inference_steps=2)
    assert (both[1].int() - alone[0].int()).abs().max() <= 1


def test_prompts_reach_the_denoiser(adapter, pipeline):
    one, other = (
        sample_batch(adapter, pipeline, [prompt], range(1), seed=0, split="evaluation", num_inference_steps=2)
        for prompt in PROMPTS
    )
    assert not torch.equal(one, other)


def test_guidance_reaches_the_sampler(adapter, pipeline):
    weak, strong = (
        sample_batch(
            replace(adapter, guidance_scale=scale),
            pipeline,
            PROMPTS[:1],
            range(1),
            seed=0,
            split="evaluation",
            num_inference_steps=2,
        )
        for scale in (2.0, 6.0)
    )
    assert not torch.equal(weak, strong)


def test_special_layers_exist(adapter, pipeline):
    denoiser = adapter.denoiser(pipeline)
    layers, anatomy = weighted_layers(denoiser), adapter.anatomy(denoiser)
    boundary = anatomy.boundary
    for names in (boundary.first, boundary.last, boundary.embedders, anatomy.temporal_sites):
        assert names and set(names) <= set(layers)
    assert anatomy.num_frames == adapter.num_frames
    assert bool(anatomy.shortcuts) == hasattr(denoiser, "up_blocks")
    for name, start in anatomy.shortcuts.items():
        assert 0 < start < layers[name].in_channels


@pytest.mark.parametrize("granularity", [Reconstruction.block, Reconstruction.layer])
def test_reconstruction_blocks_are_disjoint_and_hold_every_layer(adapter, pipeline, granularity):
    denoiser = adapter.denoiser(pipeline)
    blocks = adapter.anatomy(denoiser).blocks[granularity]
    held = [layer for block in blocks for layer in unit_layers(denoiser, block)]
    assert sorted(held) == sorted(weighted_layers(denoiser))
    assert (len(blocks) == len(held)) == (granularity is Reconstruction.layer)


def test_temporal_features_are_what_the_layers_really_see(adapter, pipeline):
    """The enumeration without videos equals the inputs hooked during sampling, at every step."""
    denoiser = adapter.denoiser(pipeline)
    timesteps = adapter.timesteps(pipeline, 3)
    expected = adapter.temporal_features(denoiser, timesteps)
    seen = {name: [] for name in expected}
    hooks = [
        denoiser.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen[name].append(args[0].clone())
        )
        for name in expected
    ]
    sample_batch(adapter, pipeline, PROMPTS, range(2), seed=0, split="evaluation", num_inference_steps=3)
    for hook in hooks:
        hook.remove()
    for name, features in expected.items():
        for step, rows in enumerate(seen[name]):
            candidates = features[step :: len(timesteps)]  # of a class-conditional model, one for each class
            nearest = torch.cdist(rows.reshape(-1, features.shape[1]), candidates).argmin(1)
            torch.testing.assert_close(rows.reshape(-1, features.shape[1]), candidates[nearest], rtol=1e-4, atol=1e-5)


def test_calibration_is_a_valid_denoiser_call(adapter, pipeline):
    captured = capture_calibration_batch(
        adapter, pipeline, PROMPTS, range(2), seed=0, num_inference_steps=4, plan=CalibrationPlan(2, 2)
    )
    calibration = CalibrationSet.from_tensors(captured)
    assert len(calibration) == 8, "2 prompts × 2 steps × (unconditional, conditional)"
    assert len(captured["timestep"].unique()) == 2
    entries = calibration.take([0, 1, 2])
    with torch.no_grad():
        output = adapter.denoiser(pipeline)(**entries).sample
    assert len(output) == 3 and output.isfinite().all()


@torch.no_grad()
def test_explicit_attention_equals_the_original(adapter, pipeline, entries):
    denoiser = convert(adapter.denoiser(pipeline), Quantization({}, {}))
    original = denoiser(**entries).sample
    explicit_attention_(denoiser)
    assert not torch.equal(denoiser(**entries).sample, original), "nothing was replaced"
    torch.testing.assert_close(denoiser(**entries).sample, original, rtol=1e-3, atol=1e-4)


def test_norms_are_followed_through_a_call(adapter, pipeline, entries):
    """Latte's norms have no affine, so nothing absorbs there; in U-Nets the norms before attention do."""
    denoiser = adapter.denoiser(pipeline)
    absorbing = absorbing_norms(denoiser, entries)
    affine = [m for m in denoiser.modules() if isinstance(m, torch.nn.LayerNorm) and m.weight is not None]
    assert bool(absorbing) == bool(affine)


def test_the_fingerprint_is_that_of_the_weights_not_of_their_card(random_adapter, tmp_path):
    original = random_adapter("latte_class")
    shutil.copytree(original.folder(), tmp_path, dirs_exist_ok=True)
    adapter = replace(original, path=str(tmp_path))
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "samples.png").write_bytes(b"its picture")
    assert adapter.fingerprint() == original.fingerprint()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    assert adapter.fingerprint() != original.fingerprint()
