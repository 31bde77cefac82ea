"""Every model in conf/model keeps the adapter's promises."""

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.config import CONF
from qvd.calibration import capture_calibration_batch
from qvd.sampling import sample_batch

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


@pytest.fixture(scope="module", params=MODELS)
def adapter(request):
    return compose_run_config([f"model={request.param}"]).model


@pytest.fixture(scope="module")
def pipeline(adapter):
    return adapter.load_pipeline("cpu")


PROMPTS = ["a red circle moving left on a plain background", "a blue cross growing on a striped background"]


def test_samples_have_the_promised_geometry_and_ignore_the_batch(adapter, pipeline):
    both = sample_batch(adapter, pipeline, PROMPTS, range(2), seed=0, split="evaluation", num_inference_steps=2)
    assert both.shape == (2, adapter.num_frames, 3, adapter.resolution, adapter.resolution)
    assert both.dtype == torch.uint8
    alone = sample_batch(adapter, pipeline, PROMPTS[1:], range(1, 2), seed=0, split="evaluation", num_inference_steps=2)
    assert (both[1].int() - alone[0].int()).abs().max() <= 1


def test_special_layers_exist(adapter, pipeline):
    denoiser = adapter.denoiser(pipeline)
    names = dict(denoiser.named_modules())
    boundary = adapter.boundary_layers(denoiser)
    for name in (*boundary.first, *boundary.last, *boundary.embedders, *adapter.temporal_feature_sites(denoiser)):
        assert name in names
    assert boundary.first and boundary.last and boundary.embedders and adapter.temporal_feature_sites(denoiser)


def test_temporal_features_are_what_the_layers_really_see(adapter, pipeline):
    """The enumeration without videos equals the inputs hooked during sampling, at every step."""
    denoiser = adapter.denoiser(pipeline)
    timesteps = adapter.timesteps(pipeline, 3)
    expected = adapter.temporal_features(denoiser, timesteps)
    seen = {name: [] for name in expected}
    hooks = [
        denoiser.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen[name].append(args[0][0].clone())
        )
        for name in expected
    ]
    sample_batch(adapter, pipeline, PROMPTS, range(2), seed=0, split="evaluation", num_inference_steps=3)
    for hook in hooks:
        hook.remove()
    for name, features in expected.items():
        torch.testing.assert_close(torch.stack(seen[name]).reshape(features.shape), features, rtol=1e-4, atol=1e-5)


def test_calibration_is_a_valid_denoiser_call(adapter, pipeline):
    captured = capture_calibration_batch(
        adapter, pipeline, PROMPTS, range(2), seed=0, num_inference_steps=4, num_steps=2
    )
    sizes = {len(tensor) for tensor in captured.values()}
    assert sizes == {8}, "2 prompts × 2 steps × (unconditional, conditional)"
    assert len(captured["timestep"].unique()) == 2
    with torch.no_grad():
        output = adapter.denoiser(pipeline)(**{name: tensor[:3] for name, tensor in captured.items()}).sample
    assert output.shape == captured["sample"][:3].shape and output.isfinite().all()
