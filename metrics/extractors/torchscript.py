"""StyleGAN-V's TorchScript I3D, the network behind most published FVD values since 2021 (Skorokhodov et al. 2022)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from metrics.checkpoint import read_torchscript
from metrics.extractors.base import VideoExtractor, file_sha256
from metrics.extractors.download import STYLEGANV_I3D, fetch


class StyleGANVI3D(VideoExtractor):
    """Kinetics-400 logits of `i3d_torchscript.pt`, which resizes and rescales uint8 videos itself.

    Args:
        path: the file; by default it is downloaded once and its checksum verified.
    """

    name = "i3d-kinetics400-styleganv"
    num_features = 400
    min_frames = 10
    input_size = (224, 224)
    resize = "bilinear, no antialias"

    def __init__(self, path: str | Path | None = None) -> None:
        super().__init__()
        path = path or fetch(STYLEGANV_I3D)
        self.sha256 = file_sha256(path)
        self.network = read_torchscript(path)

    def features(self, videos: Tensor) -> Tensor:
        return self.network(videos.transpose(1, 2), rescale=True, resize=True, return_features=True)
