"""The Python door: README's own example, and what it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import qvd
from baselines.naive import Naive
from metrics.fidelity import psnr
from qvd.backends.convert import placements
from qvd.backends.simulated import Simulation
from qvd.graph.sites import weighted_layers
from qvd.spec.files import FILE

ROOT = Path(__file__).parent.parent
TINY = {"num_frames": 8, "num_inference_steps": 4, "guidance_scale": 3.0, "batch_size": 2}
PROMPTS = ["a red circle moving left", "a blue square moving up", "a green triangle moving right"]


@pytest.fixture(scope="module")
def model():
    return qvd.load_model("tiny_modelscope", **TINY)


@pytest.fixture(scope="module")
def calibration(model):
    return qvd.calibrate(model, PROMPTS, num_steps=2)


@pytest.fixture(scope="module")
def quantization(model, calibration):
    return qvd.quantize(model, calibration, bits="w8a8", method=Naive())


@pytest.mark.full
def test_the_example_of_the_readme_runs(tmp_path):
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import qvd\n.*?)```", readme, re.S)
    assert len(example.splitlines()) <= 15
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "qvd-w8a8" / FILE).is_file()
    assert done.stdout.strip() == "torch.Size([1, 8, 3, 32, 32])"


def test_importing_the_package_is_light():
    code = "import sys, qvd; assert not {'torch', 'diffusers'} & set(sys.modules); print(*qvd.__all__, *dir(qvd))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"load_model", "calibrate", "quantize", "convert", "save", "load"} <= set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = qvd.quantise


def test_a_quantized_model_draws_nearly_the_same_videos(model, quantization):
    fp = model.sample(PROMPTS)
    assert fp.shape == (3, 8, 3, 32, 32) and fp.dtype is torch.uint8
    assert torch.equal(fp[:2], model.sample(PROMPTS[:2])), "noise depends on the seed and the prompt's place alone"
    original = model.denoiser
    model.denoiser = qvd.convert(original, quantization)
    try:
        quantized = model.sample(PROMPTS)
    finally:
        model.denoiser = original
    assert not torch.equal(fp, quantized) and psnr(quantized, fp).median() > 40  # one of them tips over
    assert torch.equal(fp, model.sample(PROMPTS)), "converting must leave the original as it was"


def test_a_model_is_converted_for_a_backend(model, quantization):
    class Idle(Simulation):
        name = "idle"

        def refuses(self, layer, spec):
            return "idle"

    placed = placements(qvd.convert(model.denoiser, quantization, Idle()))
    assert {(place.backend, place.reason) for place in placed} == {("simulated", "idle"), ("idle", None)}


def test_what_is_saved_computes_the_same(model, quantization, tmp_path):
    path = qvd.save(quantization, tmp_path / "out")
    x = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    text = torch.randn(1, 12, model.denoiser.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    outputs = []
    for spec in (quantization, qvd.load(tmp_path / "out")):
        with torch.no_grad():
            outputs.append(qvd.convert(model.denoiser, spec)(x, 500, text)[0])
    assert torch.equal(*outputs)
    floats = sum(p.numel() * 4 for p in model.denoiser.parameters())
    assert path.stat().st_size < 0.5 * floats


@pytest.mark.parametrize(
    ("family", "options"),
    [("tiny_latte", {}), ("tiny_animatediff", {}), ("tiny_latte_cc", {"classes": "shapes", "resolution": 32})],
)
def test_every_family_is_recognized(family, options):
    model = qvd.load_model(family, **TINY, **options)
    assert model.adapter.resolution == 32 and model.adapter.embedded
    assert weighted_layers(model.denoiser)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no quantized model there \(quantization.safetensors is missing\)"):
        qvd.load(tmp_path / "nowhere")


def test_a_quantization_of_another_network_is_refused(quantization):
    other = qvd.load_model("tiny_latte", **TINY)
    with pytest.raises(ValueError, match="of another network: this LatteTransformer3DModel has no conv_in"):
        qvd.convert(other.denoiser, quantization)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("tiny_modelscope", {"colour": 1}, "colour: ModelScope has no such option"),
        ("tiny_modelscope", {"num_frames": 0}, "model.num_frames=0: must be at least 1"),
        ("tiny_modelscope", {"dtype": "int3"}, "'int3' is not a valid DType"),
        ("/nowhere", {}, "no diffusers pipeline there"),
    ],
)
def test_a_model_that_cannot_be(path, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        qvd.load_model(path, **options)


def test_calibration_needs_prompts_and_steps(model):
    with pytest.raises(ValueError, match=r"prompts=\[\]: calibration needs at least one"):
        qvd.calibrate(model, [])
    with pytest.raises(ValueError, match=r"num_steps=9: must lie in 1\.\.4"):
        qvd.calibrate(model, PROMPTS, num_steps=9)
