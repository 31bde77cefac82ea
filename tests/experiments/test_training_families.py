"""Each family's training starts, learns only what it should, and leaves a folder that its adapter loads."""

from pathlib import Path

import torch

from experiments.attributes import shuffle_frames
from experiments.training import animatediff, class_latte, latte
from experiments.training.latents import VAE, latent_bank
from qvd.models.animatediff import AnimateDiff
from qvd.models.latte import Latte
from qvd.models.latte_class import ClassLatteAdapter
from qvd.models.loading import load_pipeline
from qvd.options.model import Classes
from tests.models.conftest import GEOMETRY

PROMPTS = ["a red circle moving left on a plain background"]


def sample(adapter):
    pipeline = load_pipeline(adapter, "cpu")
    return adapter.sample(pipeline, PROMPTS, [torch.Generator().manual_seed(0)], 1)


def test_latents_are_encoded_once(tmp_path):
    first = latent_bank(2, tmp_path)
    (file,) = tmp_path.glob("latents-2-*.safetensors")
    written = file.stat().st_mtime_ns
    again = latent_bank(2, tmp_path)
    assert file.stat().st_mtime_ns == written and torch.equal(first.latents, again.latents)
    assert first.latents.shape == (2, 4, 8, 8, 8) and first.captions == again.captions


def test_class_latte(tmp_path):
    options = class_latte.ClassLatteOptions(steps=1, clips=2, work_dir=tmp_path, batch=2)
    network = class_latte.train(options)
    assert network.y_embedder.embedding_table.weight.shape == (281, 128)
    assert set(network.state_dict()) == set(class_latte.build_network().state_dict())
    class_latte.save(network, VAE, tmp_path / "out", options.history("class_latte", "its classes", "null class"))
    adapter = ClassLatteAdapter(path=str(tmp_path / "out"), **GEOMETRY, classes=Classes.shapes)
    assert sample(adapter).shape == (1, 8, 3, 32, 32)


def test_latte(tmp_path):
    parts = latte.train(latte.LatteOptions(steps=1, clips=2, work_dir=tmp_path, batch=2))
    latte.save(parts, VAE, tmp_path / "out", {"seed": "0"})
    assert sample(Latte(path=str(tmp_path / "out"), **GEOMETRY)).shape == (1, 8, 3, 32, 32)
    tokens = parts[2](PROMPTS[0]).input_ids
    assert len(tokens) == len(PROMPTS[0].split()) + 1, "every word is one token"


def test_animatediff_motion_modules_leave_the_image_unet_alone(tmp_path):
    base = Path(animatediff.BASE)
    bank = latent_bank(2, tmp_path, base / "vae")
    prompts = animatediff.Prompts(base, bank.captions)
    short = {"image_steps": 1, "image_batch": 2, "motion_steps": 1, "motion_batch": 2}
    options = animatediff.AnimateDiffOptions(work_dir=tmp_path, **short)
    image = animatediff.train_image_unet(options, bank, prompts)
    before = {name: value.clone() for name, value in image.state_dict().items()}
    unet = animatediff.train_motion_modules(image, options, bank, prompts)
    after = unet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any("motion_modules" in name for name in after)
    animatediff.save(unet, base, tmp_path / "out", {"seed": "0"})
    assert sample(AnimateDiff(path=str(tmp_path / "out"), **GEOMETRY)).shape == (1, 8, 3, 32, 32)


def test_shuffled_frames_are_the_same_frames():
    videos = torch.arange(2 * 8).view(2, 8, 1, 1, 1)
    shuffled = shuffle_frames(videos)
    assert not torch.equal(shuffled, videos) and torch.equal(shuffled.sort(1).values, videos)
