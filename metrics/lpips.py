"""LPIPS (Zhang et al. 2018) of videos, without torchvision.

torchmetrics' own LPIPS takes its backbone from torchvision, which this project keeps out. The linear heads are the ones
that torchmetrics ships; the AlexNet is written out here and reads torchvision's file. A test shows that with the same
weights both give the same distance.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional import image

from metrics.checkpoint import load_weights_, read_checkpoint

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 31
TAPS = (1, 4, 7, 9, 11)
"""Positions of AlexNet's five ReLUs, whose outputs are compared."""


class LPIPS(nn.Module):
    """The AlexNet variant, version 0.1, as the published package computes it by default.

    Args:
        alexnet: state dict in torchvision's names; the classifier's keys are not used.
        heads: weights (1, C, 1, 1) of the five linear heads; by default those that torchmetrics ships.
        source: of the state dict, for errors.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, alexnet: dict[str, Tensor], heads: list[Tensor] | None = None, source: str | Path = "AlexNet"
    ) -> None:
        super().__init__()
        self.features = alexnet_features()
        prefix = "features."
        own = {key.removeprefix(prefix): value for key, value in alexnet.items() if key.startswith(prefix)}
        load_weights_(self.features, own, source)
        for i, head in enumerate(heads or torchmetrics_heads()):
            self.register_buffer(f"head_{i}", head)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))
        self.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, path: str | Path) -> LPIPS:
        """Load torchvision's `alexnet-owt-7be5be79.pth` (see ALEXNET_URL)."""
        return cls(read_checkpoint(path), source=path)

    @torch.inference_mode()
    def forward(self, videos: Tensor, reference: Tensor) -> Tensor:
        """Mean distance of the frames of each video.

        Args:
            videos: uint8 (B, T, 3, H, W), H and W at least 31.
            reference: the same shape.

        Returns:
            float32 (B,), 0 for identical videos.

        Raises:
            ValueError: different shapes, or frames too small.
        """
        if videos.shape != reference.shape or min(videos.shape[-2:]) < SMALLEST:
            shapes = f"{tuple(videos.shape)} and {tuple(reference.shape)}"
            raise ValueError(
                f"LPIPS compares videos of one shape, with frames of at least {SMALLEST} pixels, got {shapes}"
            )
        pairs = zip(videos, reference, strict=True)
        return torch.stack([self.distances(video, other).mean() for video, other in pairs])

    def distances(self, frames: Tensor, reference: Tensor) -> Tensor:
        """Distances (N,) of uint8 frames (N, 3, H, W)."""
        total = torch.zeros(len(frames), device=frames.device)
        for i, (a, b) in enumerate(zip(self._activations(frames), self._activations(reference), strict=True)):
            difference = (_unit(a) - _unit(b)).square()
            total += F.conv2d(difference, self.get_buffer(f"head_{i}")).mean((1, 2, 3))
        return total

    def _activations(self, frames: Tensor) -> list[Tensor]:
        x = (frames.float() / 127.5 - 1 - self.shift) / self.scale
        taken = []
        for position, layer in enumerate(self.features):
            x = layer(x)
            if position in TAPS:
                taken.append(x)
        return taken


def _unit(x: Tensor) -> Tensor:
    """Unit length along the channels; the epsilon is torchmetrics'."""
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


def alexnet_features() -> nn.Sequential:
    """The convolutional part of AlexNet (Krizhevsky 2014), with torchvision's layer numbers, up to its last ReLU."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def torchmetrics_heads() -> list[Tensor]:
    """The five linear heads in torchmetrics' package (BSD licence, Richard Zhang et al.)."""
    file = Path(image.__file__).parent / "lpips_models" / "alex.pth"
    state = torch.load(file, map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"] for i in range(len(TAPS))]
