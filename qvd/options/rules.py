"""How ranges are found, and which bits a layer gets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qvd.options.bits import ACTIVATION_BITS, WEIGHT_BITS


class RangeMethod(Enum):
    """How a clipping range is found: `minmax`, or `lp`, the least p-norm error over shrunken ranges."""

    minmax = "minmax"
    lp = "lp"


class RangeReduction(Enum):
    """What a static activation range is of, several calls having been watched.

    `joint`: all that they held together, unless the method has a way of its own (PTQ4DM's running average). `mean`: the
    arithmetic mean of the ranges found call by call, one call being a sample's step (as QVD's public port).
    """

    joint = "joint"
    mean = "mean"


class ActivationGranularity(Enum):
    """What shares one grid of an activation.

    `tensor`: everything, always (static). `timestep`: one sampler step (static). `frame`: one frame (static).
    `batch_frame`: one frame where frames lie in the batch, as in layers made for images (static, QVD's public port).
    `token`: one token of one call (dynamic, as ViDiT-Q).
    """

    tensor = "tensor"
    timestep = "timestep"
    frame = "frame"
    batch_frame = "batch_frame"
    token = "token"

    @property
    def is_static(self) -> bool:
        """Whether ranges are fixed before a model runs."""
        return self is not ActivationGranularity.token

    @property
    def by_frame(self) -> bool:
        """Whether frames are told apart."""
        return self in (ActivationGranularity.frame, ActivationGranularity.batch_frame)


@dataclass(frozen=True)
class LayerRule:
    """Bits for every layer or attention operand whose name matches.

    Attributes:
        pattern: fnmatch pattern on module names (`*.temp_convs.*`) or operands (`*.attn1.probabilities`).
        weight_bits, activation_bits: null is floating point. Operands have no weight.
    """

    pattern: str
    weight_bits: int | None
    activation_bits: int | None

    def __post_init__(self) -> None:
        for field, allowed in (("weight_bits", WEIGHT_BITS), ("activation_bits", ACTIVATION_BITS)):
            value = getattr(self, field)
            if value is not None and value not in allowed:
                span = f"{allowed.start}…{allowed.stop - 1}"
                raise ValueError(f"quantizer.rules[{self.pattern!r}].{field}={value}: must be null or in {span}")
