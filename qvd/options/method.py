"""What every method can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from qvd.options.bits import ACTIVATION_BITS
from qvd.options.calibration import CalibrationPlan
from qvd.options.rules import ActivationGranularity, LayerRule, RangeMethod, RangeReduction

RANGE_CANDIDATES = range(1, 101)  # in steps of a hundredth of the widest range


@dataclass(frozen=True)
class MethodOptions:
    """A post-training quantization method and its settings.

    Attributes:
        name: how tables call it.
        calibration: which calibration set it wants.
        weight_range, activation_range: how clipping ranges are found; weights per output channel, activations
            as `activation_granularity` says.
        weight_symmetric, activation_symmetric: symmetric grids, an activation's one-sided where it takes one sign; the
            grid of a token (`activation_granularity`) is asymmetric always.
        range_candidates: how many ranges the `lp` search tries: 1, 0.99, … of the widest [Q-Diffusion: 80].
        range_reduction: how an activation's range comes from many calls.
        activation_granularity: what shares one activation grid; static per tensor unless a config says otherwise.
        p_norm: the norm of the `lp` search.
        bias_correction: b' = b + Ŵ·s + (W - Ŵ)·μ (ours, offered to every method).
        softmax_bits: bits of attention probabilities (Q-Diffusion's default is 8); null: the run's activation bits.
        only: patterns of the layers and operands that are quantized at all, to study a part alone; empty: all.
        rules: exceptions by layer name, the last match winning.
    """

    name: str
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=64, num_steps=10))
    weight_range: RangeMethod = RangeMethod.minmax
    activation_range: RangeMethod = RangeMethod.minmax
    weight_symmetric: bool = False
    activation_symmetric: bool = False
    range_candidates: int = 80
    range_reduction: RangeReduction = RangeReduction.joint
    activation_granularity: ActivationGranularity = ActivationGranularity.tensor
    p_norm: float = 2.4
    bias_correction: bool = False
    softmax_bits: int | None = 8
    only: list[str] = field(default_factory=list)
    rules: list[LayerRule] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.p_norm <= 10:
            raise ValueError(f"quantizer.p_norm={self.p_norm}: must be in (0, 10]")
        if self.range_candidates not in RANGE_CANDIDATES:
            raise ValueError(f"quantizer.range_candidates={self.range_candidates}: must be in 1…100")
        if self.range_reduction is not RangeReduction.joint and not self.activation_granularity.is_static:
            raise ValueError(
                f"quantizer.range_reduction={self.range_reduction.value}: a token's range is taken at run time; "
                "allowed is joint, or another activation_granularity"
            )
        if self.softmax_bits is not None and self.softmax_bits not in ACTIVATION_BITS:
            raise ValueError(f"quantizer.softmax_bits={self.softmax_bits}: must be null or in 2…16")


@dataclass(frozen=True)
class FloatingPointOptions(MethodOptions):
    """No quantization at all, whatever the bits."""

    name: str = "fp"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=1, num_steps=1))
