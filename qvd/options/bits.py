"""Bit widths of a run: `w8a8`, `w4a8`, …, weights alone as `w4a16` or `w4afp`, or `fp`."""

from __future__ import annotations

import re
from dataclasses import dataclass

WEIGHT_BITS = range(2, 9)
ACTIVATION_BITS = range(2, 17)
FLOAT_ACTIVATIONS = ("16", "fp")  # as the field writes weight-only quantization
ALLOWED = "fp, or w{2..8}a{2..16} such as w8a8, w6a6, w4a8; a16 or afp quantizes weights alone"


@dataclass(frozen=True)
class Bits:
    """Weight and activation bit widths; None means floating point."""

    weight: int | None
    activation: int | None

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read `fp` or `w{weight}a{activation}`; the activations of `w4a16`, alias `w4afp`, stay in floating point.

        Raises:
            ValueError: for anything else, naming the value and what is allowed.
        """
        if text == "fp":
            return FLOATING_POINT
        match = re.fullmatch(r"w([0-9]+)a([0-9]+|fp)", text)
        if match is None or int(match[1]) not in WEIGHT_BITS:
            raise ValueError(f"bits={text}: allowed are {ALLOWED}")
        if match[2] in FLOAT_ACTIVATIONS:
            return cls(int(match[1]), None)
        if int(match[2]) not in ACTIVATION_BITS:
            raise ValueError(f"bits={text}: allowed are {ALLOWED}")
        return cls(int(match[1]), int(match[2]))

    def at_least(self, n_bits: int) -> Bits:
        """These widths, none below `n_bits`; floating point stays."""
        weight, activation = (bits and max(bits, n_bits) for bits in (self.weight, self.activation))
        return Bits(weight, activation)

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantized."""
        return self.weight is None and self.activation is None

    def __str__(self) -> str:
        return "fp" if self.is_float else f"w{self.weight}a{self.activation or FLOAT_ACTIVATIONS[0]}"


FLOATING_POINT = Bits(None, None)
