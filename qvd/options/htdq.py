"""Which grids temporal features get."""

from __future__ import annotations

from enum import Enum


class HtdqForm(Enum):
    """A member of the family; `auto` the best of those that fit in the bits; `off` treats the site like any other.

    `log2` does not count its sign, as in a public port of QVD; `log2_first` is what that port runs: besides, M = max|x|
    of the sampler's first step alone, and magnitudes under M·2^-(2^b) are 0.
    """

    auto = "auto"
    mixed = "mixed"
    log2 = "log2"
    log2_first = "log2_first"
    log2_charged = "log2_charged"
    log_tau = "log_tau"
    power = "power"
    uniform = "uniform"
    off = "off"
