"""Grids of inputs. A class with a `form` of its own is known to `grid_from_dict` once its module is imported."""

from qvd.numerics.grids.base import Grid, InputGrid, grid_from_dict
from qvd.numerics.grids.groups import FrameGrid, GroupGrid, TimestepGrid, TokenGrid, frames_apart
from qvd.numerics.grids.hidi_tq import Log2Grid, LogTauGrid, MixedGrid, PowerGrid
from qvd.numerics.grids.uniform import AffineGrid, SplitGrid

__all__ = [
    "AffineGrid",
    "FrameGrid",
    "Grid",
    "GroupGrid",
    "InputGrid",
    "Log2Grid",
    "LogTauGrid",
    "MixedGrid",
    "PowerGrid",
    "SplitGrid",
    "TimestepGrid",
    "TokenGrid",
    "frames_apart",
    "grid_from_dict",
]
