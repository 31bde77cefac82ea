"""How one static grid comes from many calls: a search over all that they hold, or the average of each call's own range.

The average is that of a public port of QVD (arXiv 2407.11585), arithmetic over all calls, and with a momentum that of
PTQ4DM's released code (arXiv 2211.15736).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from qvd.algorithms.layerwise import LayerSettings, activation_grid
from qvd.calibration.observers import HistogramObserver, SiteRange
from qvd.numerics.affine import affine_parameters, symmetric_parameters
from qvd.numerics.grids import AffineGrid

CALL_BINS = 2048


class RangeCollector(ABC):
    """Takes in an activation call by call, and gives its grid."""

    def __init__(self, n_bits: int, settings: LayerSettings) -> None:
        self.n_bits, self.settings = n_bits, settings

    @abstractmethod
    def update(self, x: Tensor) -> None:
        """Take in one call, of any shape."""

    @property
    @abstractmethod
    def grid(self) -> AffineGrid:
        """The grid of all calls."""


class JointRange(RangeCollector):
    """One search over the histogram of all calls."""

    def __init__(self, n_bits: int, settings: LayerSettings, num_bins: int) -> None:
        super().__init__(n_bits, settings)
        self._observer = HistogramObserver(None, num_bins)

    def update(self, x: Tensor) -> None:
        self._observer.update(x)

    @property
    def grid(self) -> AffineGrid:
        return activation_grid(self._observer.result(), self.n_bits, self.settings)


class AveragedRange(RangeCollector):
    """The average of the calls' own clipping ranges; of symmetric grids, of their thresholds.

    A symmetric grid is one-sided where all calls together take one sign.
    """

    def __init__(self, n_bits: int, settings: LayerSettings, momentum: float | None = None) -> None:
        """`momentum`: the old average's share in the new one, which the first call starts; None: arithmetic mean."""
        super().__init__(n_bits, settings)
        self.momentum, self._num_calls = momentum, 0
        self._bounds, self._extremes = torch.zeros(2), torch.zeros(2)

    def update(self, x: Tensor) -> None:
        observer = HistogramObserver(None, CALL_BINS)
        observer.update(x)
        call = observer.result()
        found = torch.zeros(2) if call.low == call.high == 0 else self._clipping(call)
        known = self._num_calls / (self._num_calls + 1) if self.momentum is None else self.momentum
        self._bounds = found if self._num_calls == 0 else known * self._bounds + (1 - known) * found
        self._extremes = torch.stack([self._extremes[0].clamp(max=call.low), self._extremes[1].clamp(min=call.high)])
        self._num_calls += 1

    def _clipping(self, call: SiteRange) -> Tensor:
        """(2,) the ends of a call's grid; of a symmetric one ∓ its threshold, whichever sign the call takes."""
        grid = activation_grid(call, self.n_bits, self.settings)
        if not self.settings.symmetric_activations:
            return torch.tensor([grid.low_code, grid.high_code]) * grid.scale
        signed = self.settings.symmetric_on(call.low, call.high)
        threshold = grid.scale * (2 ** (self.n_bits - signed) - 1)
        return torch.tensor([-threshold, threshold])

    @property
    def grid(self) -> AffineGrid:
        """As of the base class.

        Raises:
            RuntimeError: no call has been seen.
        """
        if self._num_calls == 0:
            raise RuntimeError("calibration never reached a quantized input: nothing to choose a range from")
        (low, high), (lowest, highest) = self._bounds, self._extremes.tolist()
        if self.settings.symmetric_on(lowest, highest):
            scale, zero_point = symmetric_parameters(high, self.n_bits)
        elif self.settings.symmetric_activations:
            scale, zero_point = affine_parameters(low * (lowest < 0), high * (highest > 0), self.n_bits)
        else:
            scale, zero_point = affine_parameters(low, high, self.n_bits)
        return AffineGrid(self.n_bits, scale.item(), zero_point.item())
