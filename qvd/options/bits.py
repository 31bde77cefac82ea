"""Bit widths of a run: `w8a8`, `w4a8`, … or `fp`."""

from __future__ import annotations

import re
from dataclasses import dataclass

WEIGHT_BITS = range(2, 9)
ACTIVATION_BITS = range(2, 17)
ALLOWED = "fp, or w{2..8}a{2..16} such as w8a8, w6a6, w4a8"


@dataclass(frozen=True)
class Bits:
    """Weight and activation bit widths; None means floating point."""

    weight: int | None
    activation: int | None

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read `fp` or `w{weight}a{activation}`.

        Raises:
            ValueError: for anything else, naming the value and what is allowed.
        """
        if text == "fp":
            return FLOATING_POINT
        match = re.fullmatch(r"w(\d+)a(\d+)", text)
        if match is None:
            raise ValueError(f"bits={text}: allowed are {ALLOWED}")
        weight, activation = int(match[1]), int(match[2])
        if weight not in WEIGHT_BITS or activation not in ACTIVATION_BITS:
            raise ValueError(f"bits={text}: allowed are {ALLOWED}")
        return cls(weight, activation)

    def at_least(self, n_bits: int) -> Bits:
        """These widths, none below `n_bits`; floating point stays."""
        weight, activation = (bits and max(bits, n_bits) for bits in (self.weight, self.activation))
        return Bits(weight, activation)

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantized."""
        return self.weight is None and self.activation is None

    def __str__(self) -> str:
        return "fp" if self.is_float else f"w{self.weight}a{self.activation}"


FLOATING_POINT = Bits(None, None)
