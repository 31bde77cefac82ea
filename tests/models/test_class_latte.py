"""The class-conditional Latte against its definition, and its sampler."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn import functional as F

from qvd.models.latte_class import MAX_FEATURES, ClassLatteAdapter
from qvd.models.latte_network import ClassLatte, modulate
from qvd.models.latte_pipeline import guide
from qvd.models.loading import load_pipeline
from qvd.options.model import Classes, Scheduler
from tests.models.conftest import GEOMETRY, randomised


def tiny(**options):
    torch.manual_seed(0)
    options = {"num_classes": 6, **options}
    network = ClassLatte(sample_size=8, hidden_size=24, depth=4, num_heads=3, num_frames=4, **options)
    return randomised(network).eval()


@torch.no_grad()
def published(network, x, timestep, labels):
    """The released forward, step by step and with its repeats, on one video (T, C, H, W)."""
    frames, patches = len(x), network.pos_embed.shape[1]
    half = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(128) / 128)
    angles = timestep.float() * half
    t = network.t_embedder.mlp(torch.cat([angles.cos(), angles.sin()])[None])
    c = F.silu(t + network.y_embedder.embedding_table(labels))
    x = network.x_embedder.proj(x).flatten(2).transpose(1, 2) + network.pos_embed
    for i, block in enumerate(network.blocks):
        if i % 2 == 1:
            x = x.transpose(0, 1) + (network.temp_embed if i == 1 else 0)
        m = block.adaLN_modulation[1](c.repeat(len(x), 1)).chunk(6, dim=1)
        m = [part[:, None] for part in m]
        q, k, v = block.attn.qkv(modulate(block.norm1(x), m[0], m[1])).unflatten(-1, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + m[2] * block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
        hidden = F.gelu(block.mlp.fc1(modulate(block.norm2(x), m[3], m[4])), approximate="tanh")
        x = x + m[5] * block.mlp.fc2(hidden)
        if i % 2 == 1:
            x = x.transpose(0, 1)
    shift, scale = network.final_layer.adaLN_modulation[1](c.repeat(frames, 1))[:, None].chunk(2, dim=-1)
    x = network.final_layer.linear(modulate(network.final_layer.norm_final(x), shift, scale))
    side = int(patches**0.5)
    x = x.reshape(frames, side, side, 2, 2, 8).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(frames, 8, 2 * side, 2 * side)


@torch.no_grad()
def test_the_forward_is_the_published_one():
    network, x = tiny(), torch.randn(2, 4, 4, 8, 8)
    timesteps, labels = torch.tensor([3, 977]), torch.tensor([5, 6])
    output = network(x, timesteps, labels).sample
    for i in range(2):
        expected = published(network, x[i], timesteps[i], labels[i : i + 1])
        torch.testing.assert_close(output[i], expected, rtol=1e-4, atol=1e-5)


def test_an_unconditional_model_has_no_classes():
    network = tiny(num_classes=None)
    assert not any("y_embedder" in name for name in network.state_dict())
    assert network(torch.randn(1, 4, 4, 8, 8), torch.tensor([3])).sample.shape == (1, 4, 8, 8, 8)


def test_guidance_leaves_the_learned_sigma_alone():
    unconditional, conditional = torch.zeros(1, 8, 2), torch.ones(1, 8, 2)
    guided = guide(torch.cat([unconditional, conditional]), 4, 7.0)
    assert torch.equal(guided[:, :4], torch.full((1, 4, 2), 7.0)) and torch.equal(guided[:, 4:], conditional[:, 4:])


def test_the_learned_sigma_reaches_the_released_sampler(random_adapter):
    """With DDPM the variance's channels change the sample; a video does not depend on its batch."""
    pipeline = load_pipeline(random_adapter("latte_class"), "cpu")
    pipeline.scheduler = DDPMScheduler(beta_schedule="linear", variance_type="learned_range", clip_sample=False)

    def draw(labels):
        generators = [torch.Generator().manual_seed(label) for label in labels]
        return pipeline(labels, generators, num_inference_steps=3, guidance_scale=7.0).latents

    both = draw([1, 2])
    torch.testing.assert_close(draw([2])[0], both[1], rtol=1e-4, atol=1e-4)
    variance = pipeline.transformer.final_layer.linear.bias.unflatten(0, (4, 8))[:, 4:]
    variance.data.add_(1.0)
    assert not torch.allclose(draw([2])[0], both[1], atol=1e-3)


@pytest.mark.parametrize("scheduler", [Scheduler.ddpm, Scheduler.ddim])
def test_a_released_checkpoint_is_sampled_like_the_folder_it_came_from(random_adapter, tmp_path, scheduler):
    folder = random_adapter("latte_class").folder()
    original = replace(random_adapter("latte_class"), scheduler=scheduler, num_inference_steps=2)
    pipeline = load_pipeline(original, "cpu")
    torch.save({"ema": pipeline.transformer.state_dict()}, tmp_path / "ucf101.pt")
    released = {"path": str(tmp_path), "checkpoint": "ucf101.pt", "vae": f"{folder}/vae", "architecture": str(folder)}
    adapter = replace(original, **released)
    prompts = ["a red circle moving left on a plain background"]

    def draw(adapter, pipeline):
        return adapter.sample(pipeline, prompts, [torch.Generator().manual_seed(0)], 2)

    assert torch.equal(draw(adapter, load_pipeline(adapter, "cpu")), draw(original, pipeline))
    assert adapter.fingerprint() != original.fingerprint()


def test_many_classes_are_represented_with_the_exact_range():
    network, timesteps = tiny(num_classes=101), torch.arange(0, 1000, 10)
    adapter = ClassLatteAdapter(path="", **GEOMETRY, classes=Classes.ucf101)
    features = adapter.temporal_features(network, timesteps)["blocks.0.adaLN_modulation.1"]
    assert len(timesteps) < len(features) <= MAX_FEATURES
    table = network.y_embedder.embedding_table.weight.detach()
    with torch.no_grad():
        everything = F.silu(table[:, None] + network.t_embedder(timesteps)[None]).flatten(0, 1)
    assert features.min() == everything.min() and features.max() == everything.max()
    torch.testing.assert_close(features[: len(timesteps)], everything[-len(timesteps) :])
