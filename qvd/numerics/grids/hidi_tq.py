"""The non-uniform members of the HiDi-TQ family (QVD, arXiv 2407.11585).

Every grid is closed-form, has an exact number of levels that can be listed (`codebook`), and maps each level to
itself. The paper's formulas are not public: `mixed` and `log2` follow the behaviour of a public port, the sign-charged
`log2`, `log_tau` and `power` are ours. `x` may be any float tensor; the result has its dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qvd.numerics.grids.base import Grid


@dataclass(frozen=True)
class MixedGrid(Grid):
    """A branch bit at `edge` e (port: `mixed`): ±e·2^-k, k < 2^(b-2), for |x| ≤ e; 2^(b-1) uniform levels on (e, max].

    Values below -e clip to -e: the temporal features are bounded below by min SiLU ≈ -0.278. Has no zero level.
    """

    form: ClassVar[str] = "mixed"
    edge: float
    maximum: float

    @property
    def step(self) -> float:
        """Distance of the uniform levels."""
        return (self.maximum - self.edge) / 2 ** (self.n_bits - 1)

    def codes(self, x: Tensor) -> Tensor:
        half, exponents = 2 ** (self.n_bits - 1), 2 ** (self.n_bits - 2)
        k = _power_of_two(x.abs() / self.edge).neg_().clamp_(0, exponents - 1)
        small = k + exponents * (x < 0)
        # Level j = 1 … half of the uniform branch; what rounds to the edge itself is the edge's own code, k = 0.
        j = torch.round((x - self.edge) / self.step).clamp_(max=half)
        return torch.where(j >= 1, half - 1 + j, small).long()

    def values(self, codes: Tensor) -> Tensor:
        half, exponents = 2 ** (self.n_bits - 1), 2 ** (self.n_bits - 2)
        small = self.edge * torch.exp2(-(codes % exponents).double())
        small = torch.where(codes >= exponents, -small, small)
        return torch.where(codes >= half, self.edge + (codes - half + 1).double() * self.step, small)


@dataclass(frozen=True)
class Log2Grid(Grid):
    """±M·2^-k with M = max|x|. The port does not count the sign: 2^b exponents, 2^(b+1) levels, b + 1 bits in truth.

    `sign_charged`: 2^(b-1) exponents, so that all of a code fits in b bits. `has_zero`: one more level, 0, for all
    magnitudes under M·2^-n, n exponents (the port's, with 2^b).
    """

    form: ClassVar[str] = "log2"
    maximum: float
    sign_charged: bool
    has_zero: bool = False

    @property
    def num_exponents(self) -> int:
        return 2 ** (self.n_bits - 1) if self.sign_charged else 2**self.n_bits

    @property
    def num_levels(self) -> int:
        return 2 * self.num_exponents + self.has_zero

    def codes(self, x: Tensor) -> Tensor:
        u = x.abs() / self.maximum
        k = _power_of_two(u).neg_().clamp_(0, self.num_exponents - 1)
        codes = (k + self.num_exponents * (x < 0)).long()
        if not self.has_zero:
            return codes
        return codes.masked_fill_(u < 2.0**-self.num_exponents, 2 * self.num_exponents)

    def values(self, codes: Tensor) -> Tensor:
        magnitude = self.maximum * torch.exp2(-(codes % self.num_exponents).double())
        values = torch.where(codes >= self.num_exponents, -magnitude, magnitude)
        return values.masked_fill_(codes == 2 * self.num_exponents, 0.0) if self.has_zero else values


@dataclass(frozen=True)
class LogTauGrid(Grid):
    """±M·2^(-k/τ), k = round(-τ·log2(|x|/M)) in [0, 2^(b-1) - 1]: a logarithmic grid whose fineness τ is searched."""

    form: ClassVar[str] = "log_tau"
    maximum: float
    tau: float

    def codes(self, x: Tensor) -> Tensor:
        exponents = 2 ** (self.n_bits - 1)
        k = torch.round(torch.log2(x.abs() / self.maximum) * -self.tau).clamp_(0, exponents - 1)
        return (k + exponents * (x < 0)).long()

    def values(self, codes: Tensor) -> Tensor:
        exponents = 2 ** (self.n_bits - 1)
        magnitude = self.maximum * torch.exp2(-(codes % exponents).double() / self.tau)
        return torch.where(codes >= exponents, -magnitude, magnitude)


@dataclass(frozen=True)
class PowerGrid(Grid):
    """y = sign(x)|x|^p is affine with `scale` and `zero_point`; x̂ = sign(ŷ)|ŷ|^(1/p). p = 1 is the affine grid."""

    form: ClassVar[str] = "power"
    scale: float
    zero_point: float
    power: float

    def codes(self, x: Tensor) -> Tensor:
        y = _signed_power(x, self.power)
        return (torch.round(y / self.scale) + self.zero_point).clamp_(0, 2**self.n_bits - 1).long()

    def values(self, codes: Tensor) -> Tensor:
        return _signed_power((codes.double() - self.zero_point) * self.scale, 1 / self.power)

    def __call__(self, x: Tensor) -> Tensor:
        y = (
            _signed_power(x, self.power)
            .div_(self.scale)
            .round_()
            .clamp_(-self.zero_point, 2**self.n_bits - 1 - self.zero_point)
        )
        return _signed_power(y.mul_(self.scale), 1 / self.power)


def _signed_power(x: Tensor, power: float) -> Tensor:
    return x.abs().pow_(power).copysign_(x)


def _power_of_two(u: Tensor) -> Tensor:
    """The port's rounding of log2(u), u ≥ 0: floor, plus 1 where u ≥ 1.5·2^floor; log2(0) = -inf."""
    floor = torch.floor(torch.log2(u))
    return floor + (u >= 1.5 * torch.exp2(floor)).to(u.dtype)
