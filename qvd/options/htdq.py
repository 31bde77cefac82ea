"""Which grids temporal features get."""

from __future__ import annotations

from enum import Enum


class HtdqForm(Enum):
    """A member of the family; `auto` the best of those that fit in the bits; `off` treats the site like any other."""

    auto = "auto"
    mixed = "mixed"
    log2 = "log2"
    log2_charged = "log2_charged"
    log_tau = "log_tau"
    power = "power"
    uniform = "uniform"
    off = "off"
