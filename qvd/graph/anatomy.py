"""What a method may know of a network beside its layers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BoundaryLayers:
    """Layers that quantization methods treat apart, by module name.

    Attributes:
        first: layers that read the noisy latents.
        last: layers that write the prediction.
        embedders: layers that embed the timestep once for the whole network.
    """

    first: list[str]
    last: list[str]
    embedders: list[str]
