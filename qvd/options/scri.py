"""Which channel transforms activations get."""

from __future__ import annotations

from enum import Enum


class ScriMode(Enum):
    """`guarded`: identity competes with shift and scale (default). `paper`: always shift, τ searched.

    `shift`: always shift, never scale. `scale`: never shift, τ searched from no scaling on. `off`: identity.
    """

    guarded = "guarded"
    paper = "paper"
    shift = "shift"
    scale = "scale"
    off = "off"
