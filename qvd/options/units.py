"""What a reconstruction treats at once."""

from __future__ import annotations

from enum import Enum


class Reconstruction(Enum):
    """Which weights' rounding is learned together: those of a `layer`, or of a `block`; `none` rounds to nearest."""

    none = "none"
    layer = "layer"
    block = "block"
