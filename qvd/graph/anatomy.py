"""What a method may know of a network beside its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from qvd.options.units import Reconstruction

# (denoiser, timesteps (n,)) → site: its exact input (n, channels) at each timestep; where it depends on the class too,
# class after class, each with all timesteps.
TemporalFeatures = Callable[[nn.Module, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class BoundaryLayers:
    """Layers that quantization methods treat apart, by module name.

    Attributes:
        first: layers that read the noisy latents.
        last: layers that write the prediction.
        embedders: layers that embed the timestep once for the whole network.
    """

    first: tuple[str, ...]
    last: tuple[str, ...]
    embedders: tuple[str, ...]

    @property
    def ends(self) -> dict[str, tuple[str, ...]]:
        """First and last layers, by what they are called in the quantization map."""
        return {"first layer": self.first, "last layer": self.last}


@dataclass(frozen=True)
class Anatomy:
    """The special modules of one denoiser, by name; a model's adapter makes it.

    Attributes:
        boundary: first, last and timestep-embedding layers.
        temporal_sites: Linear layers whose input is a pure function of the timestep (HTDQ's sites).
        blocks: what a reconstruction treats one at a time, in module order. They are disjoint and together hold every
            weighted layer: of `block`, residual and transformer blocks, and alone the layers outside of them; of
            `layer`, every layer alone; of `none`, nothing.
        shortcuts: layer that reads a U-Net's skip concatenation → the input channel at which the skip's part starts.
        num_frames: of a clip.
    """

    boundary: BoundaryLayers
    temporal_sites: tuple[str, ...]
    blocks: Mapping[Reconstruction, tuple[str, ...]]
    shortcuts: Mapping[str, int]
    num_frames: int
