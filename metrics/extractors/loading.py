"""Extractors by the names that protocols and the command line use."""

from __future__ import annotations

from pathlib import Path

from metrics.extractors.base import VideoExtractor
from metrics.extractors.i3d import I3DExtractor
from metrics.extractors.shapes_classifier import ShapesExtractor
from metrics.extractors.torchscript import StyleGANVI3D
from metrics.extractors.videomae import VideoMAEExtractor


def load_extractor(name: str, weights: str | Path | None = None) -> VideoExtractor:
    """An extractor by its name.

    Args:
        name: one of EXTRACTORS.
        weights: its file; None is the embedded one or a download that is verified by checksum.

    Raises:
        ValueError: weights that have to be given are not, or those of the embedded one are.
        FileNotFoundError: the download failed.
    """
    if name == "styleganv":
        return StyleGANVI3D(weights)
    if name == "videomae":
        return VideoMAEExtractor.from_checkpoint(weights)
    if name == "i3d":
        if weights is None:
            raise ValueError("extractor i3d needs its weights, a state dict such as rgb_imagenet.pt")
        return I3DExtractor(weights)
    if weights is not None:
        raise ValueError(f"weights {weights}: extractor {name} is embedded and has its own; leave them out")
    return ShapesExtractor()
