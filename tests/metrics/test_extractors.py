"""Extractors built on files: download, TorchScript, VideoMAE; and the published values where the weights are given."""

import hashlib
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metrics.extractors.base import extract_features, file_sha256
from metrics.extractors.download import RemoteFile, fetch
from metrics.extractors.torchscript import StyleGANVI3D
from metrics.extractors.videomae import VideoMAEExtractor, from_videomae_v2, vit_giant_config
from metrics.frechet import frechet_distance

WEIGHTS = os.environ.get("QVD_I3D")


class TestFetch:
    def test_downloads_once_and_verifies(self, tmp_path):
        source = tmp_path / "source.bin"
        source.write_bytes(b"weights")
        remote = RemoteFile("weights.bin", source.as_uri(), hashlib.sha256(b"weights").hexdigest())
        path = fetch(remote, tmp_path / "cache")
        source.unlink()
        assert path.read_bytes() == b"weights" and fetch(remote, tmp_path / "cache") == path
        path.write_bytes(b"tampered")
        with pytest.raises(ValueError, match=r"weights.bin has SHA-256 .* expected .* delete it"):
            fetch(remote, tmp_path / "cache")

    def test_offline_message_says_where_to_put_the_file(self, tmp_path):
        remote = RemoteFile("weights.bin", "http://127.0.0.1:9/weights.bin", "0" * 64)
        with pytest.raises(FileNotFoundError, match=f"could not be downloaded.* or put it at {tmp_path}/weights.bin"):
            fetch(remote, tmp_path)


class Detector(nn.Module):
    """The call signature of StyleGAN-V's file around a projection."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(3, 400)

    def forward(self, x, rescale: bool, resize: bool, return_features: bool):
        assert rescale and resize and return_features and x.dtype == torch.uint8 and x.shape[1] == 3
        return self.projection((x.float() / 127.5 - 1).mean([2, 3, 4]))


def test_torchscript_file(tmp_path):
    detector = Detector()
    torch.jit.script(detector).save(tmp_path / "i3d.pt")
    extractor = StyleGANVI3D(tmp_path / "i3d.pt")
    videos = torch.randint(0, 256, (2, 10, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = detector.projection((videos.float() / 127.5 - 1).mean([1, 3, 4]))
    torch.testing.assert_close(extractor(videos), expected)
    assert extractor.sha256 == file_sha256(tmp_path / "i3d.pt")


@pytest.fixture(scope="module")
def videomae_v2():
    """A tiny checkpoint in VideoMAE v2's names, and its transformers config."""
    from transformers import VideoMAEConfig

    config = VideoMAEConfig(
        image_size=16,
        patch_size=8,
        num_frames=4,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        layer_norm_eps=1e-6,
    )
    shapes = {"patch_embed.proj.weight": (24, 3, 2, 8, 8), "patch_embed.proj.bias": (24,)}
    for i in range(2):
        layer = {
            "norm1.weight": (24,),
            "norm1.bias": (24,),
            "attn.q_bias": (24,),
            "attn.v_bias": (24,),
            "attn.qkv.weight": (72, 24),
            "attn.proj.weight": (24, 24),
            "attn.proj.bias": (24,),
            "norm2.weight": (24,),
            "norm2.bias": (24,),
            "mlp.fc1.weight": (48, 24),
            "mlp.fc1.bias": (48,),
            "mlp.fc2.weight": (24, 48),
            "mlp.fc2.bias": (24,),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in layer.items()}
    shapes |= {"fc_norm.weight": (24,), "fc_norm.bias": (24,), "head.weight": (2, 24), "head.bias": (2,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}, config


def videomae_v2_features(p, videos, heads=2):
    """VideoMAE v2's forward_features written out on its own parameters."""
    x = F.conv3d(videos.transpose(1, 2), p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=(2, 8, 8))
    x = x.flatten(2).transpose(1, 2)
    _, n, d = x.shape
    angle = torch.arange(n)[:, None] / 10000 ** (2 * (torch.arange(d) // 2) / d)
    x = x + torch.where(torch.arange(d) % 2 == 0, angle.sin(), angle.cos())
    for i in range(2):
        b = {name.removeprefix(f"blocks.{i}."): v for name, v in p.items() if name.startswith(f"blocks.{i}.")}
        h = F.layer_norm(x, (d,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        bias = torch.cat([b["attn.q_bias"], torch.zeros(d), b["attn.v_bias"]])
        q, k, v = F.linear(h, b["attn.qkv.weight"], bias).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + F.linear(h, b["attn.proj.weight"], b["attn.proj.bias"])
        h = F.layer_norm(x, (d,), b["norm2.weight"], b["norm2.bias"], 1e-6)
        h = F.gelu(F.linear(h, b["mlp.fc1.weight"], b["mlp.fc1.bias"]))
        x = x + F.linear(h, b["mlp.fc2.weight"], b["mlp.fc2.bias"])
    return F.layer_norm(x.mean(1), (d,), p["fc_norm.weight"], p["fc_norm.bias"], 1e-6)


def test_videomae_checkpoint(videomae_v2, videos, tmp_path):
    state, config = videomae_v2
    torch.save({"module": state}, tmp_path / "tiny.pth")
    extractor = VideoMAEExtractor.from_checkpoint(tmp_path / "tiny.pth", config)
    expected = videomae_v2_features(state, videos[0][:3].float() / 255)
    torch.testing.assert_close(extractor(videos[0][:3]), expected, rtol=1e-4, atol=1e-5)
    assert extractor.name == "videomae tiny" and extractor.num_features == 24
    with pytest.raises(ValueError, match="needs exactly 4 frames, got 5"):
        extractor(torch.zeros(1, 5, 3, 16, 16, dtype=torch.uint8))


def test_videomae_from_pretrained(videomae_v2, videos, tmp_path):
    from transformers import VideoMAEForVideoClassification

    state, config = videomae_v2
    model = VideoMAEForVideoClassification(config)
    model.load_state_dict(from_videomae_v2(state))
    model.save_pretrained(tmp_path)
    extractor = VideoMAEExtractor.from_pretrained(tmp_path)
    torch.testing.assert_close(extractor(videos[0][:2]), VideoMAEExtractor(model)(videos[0][:2]))
    config.use_mean_pooling = False
    with pytest.raises(ValueError, match="needs use_mean_pooling=True"):
        VideoMAEExtractor(VideoMAEForVideoClassification(config))


@pytest.mark.full
def test_videomae_giant_has_the_published_size():
    from transformers import VideoMAEForVideoClassification

    with torch.device("meta"):
        model = VideoMAEForVideoClassification(vit_giant_config())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.01e9, rel=0.02)


@pytest.mark.skipif(WEIGHTS is None, reason="published I3D values NOT checked: set QVD_I3D to i3d_torchscript.pt")
@pytest.mark.parametrize(
    ("count", "frames", "published"), [(8, 30, 151.256), (16, 15, 131)], ids=["zeros-ones", "google-example"]
)
def test_published_values(count, frames, published):
    extractor = StyleGANVI3D(WEIGHTS)
    black = torch.zeros(count, frames, 3, 64, 64, dtype=torch.uint8)
    features = [extract_features(extractor, videos.split(4)) for videos in (black, black + 255)]
    assert frechet_distance(*features) == pytest.approx(published, rel=5e-3)
