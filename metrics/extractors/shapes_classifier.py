"""The embedded FVD extractor: a small 3-D convolutional classifier of a clip's shape, colour and motion.

It plays the part that I3D plays for natural video: a video classifier whose penultimate activations are the
features. Its numbers live on their own scale and compare only with numbers from the same weights.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from metrics.extractors.base import VideoExtractor, file_sha256

WEIGHTS = Path(__file__).parent / "weights" / "shapes_classifier"
WIDTHS = (24, 48, 64)
NUM_FEATURES = 64


class ShapesClassifier(nn.Module):
    """Three strided Conv3d stages, a linear bottleneck of 64 features, one linear head per attribute.

    Args:
        attributes: class names of every attribute, in head order.
        num_frames: frames per clip (T).
        resolution: side of the square frames in pixels.
    """

    def __init__(self, attributes: dict[str, list[str]], num_frames: int = 8, resolution: int = 32) -> None:
        super().__init__()
        self.attributes, self.num_frames, self.resolution = attributes, num_frames, resolution
        stages: list[nn.Module] = []
        channels = 3
        for level, width in enumerate(WIDTHS):
            stride = (1 if level == 0 else 2, 2, 2)
            stages += [nn.Conv3d(channels, width, 3, stride, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            channels = width
        self.stages = nn.Sequential(*stages)
        positions = (num_frames // 4) * (resolution // 8) ** 2
        self.bottleneck = nn.Linear(channels * positions, NUM_FEATURES)
        self.heads = nn.ModuleDict({name: nn.Linear(NUM_FEATURES, len(values)) for name, values in attributes.items()})

    def features(self, videos: Tensor) -> Tensor:
        """uint8 or float [0, 255] (B, T, 3, H, W) → float (B, 64), the activations before the heads."""
        x = videos.float().movedim(1, 2) / 127.5 - 1.0
        return torch.relu(self.bottleneck(self.stages(x).flatten(1)))

    def forward(self, videos: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) of every attribute."""
        features = self.features(videos)
        return {name: head(features) for name, head in self.heads.items()}

    def save(self, folder: Path) -> None:
        """Write fp16 safetensors and a config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")
        config = {"attributes": self.attributes, "num_frames": self.num_frames, "resolution": self.resolution}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> ShapesClassifier:
        model = cls(**json.loads((folder / "config.json").read_text()))
        model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        return model.eval()


class ShapesExtractor(VideoExtractor):
    """The classifier's 64 penultimate activations, for clips of exactly the geometry it was trained on."""

    name = "shapes_classifier"
    num_features = NUM_FEATURES

    def __init__(self, folder: Path = WEIGHTS) -> None:
        super().__init__()
        self.classifier = ShapesClassifier.load(folder).requires_grad_(False)
        self.sha256 = file_sha256(folder / "model.safetensors")
        self.min_frames = self.classifier.num_frames
        self.input_size = (self.classifier.resolution, self.classifier.resolution)

    def features(self, videos: Tensor) -> Tensor:
        expected = (self.classifier.num_frames, 3, self.classifier.resolution, self.classifier.resolution)
        if tuple(videos.shape[1:]) != expected:
            raise ValueError(f"shapes_classifier takes videos (B, {expected}), got {tuple(videos.shape)}")
        return self.classifier.features(videos)


def attribute_accuracy(
    classifier: ShapesClassifier, videos: Tensor, labels: dict[str, Tensor], batch: int = 64
) -> dict[str, float]:
    """Share of clips whose predicted class equals the label, per attribute.

    Args:
        videos: uint8 (N, T, 3, H, W).
        labels: long (N,) per attribute name.
    """
    with torch.no_grad():
        logits = [classifier(chunk) for chunk in videos.split(batch)]
    return {
        name: (torch.cat([part[name] for part in logits]).argmax(1) == expected).double().mean().item()
        for name, expected in labels.items()
    }
