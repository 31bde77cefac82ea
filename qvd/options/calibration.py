"""What a calibration set is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TimestepChoice(Enum):
    """`uniform`: evenly spaced sampler steps. `ndtc_*`: t ~ Normal, floored, clamped to [0, T - 1] (arXiv 2211.15736).

    `ndtc_paper`: std √(T/2) and mean `ndtc_mean`·T, of which the paper only says that it is at most T/2.
    `ndtc_released`: mean and std 0.4·T, as in the released script.
    """

    uniform = "uniform"
    ndtc_paper = "ndtc_paper"
    ndtc_released = "ndtc_released"


@dataclass(frozen=True)
class CalibrationPlan:
    """The make-up of a calibration set.

    Attributes:
        num_samples: prompts, each sampled once.
        num_steps: captured timesteps per sample: evenly spaced sampler steps, or independent draws of NDTC; null: every
            sampler step.
        timesteps: how they are chosen.
        ndtc_mean: mean of `ndtc_paper` as a share of T, in (0, 0.5]; 0.5 is ours, the paper gives only the bound.
    """

    num_samples: int
    num_steps: int | None
    timesteps: TimestepChoice = TimestepChoice.uniform
    ndtc_mean: float = 0.5

    def __post_init__(self) -> None:
        for name in ("num_samples", "num_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"quantizer.calibration.{name}={value}: must be at least 1")
        if self.num_steps is None and self.timesteps is not TimestepChoice.uniform:
            raise ValueError(
                f"quantizer.calibration.num_steps=null: every step is drawn by timesteps=uniform alone, not by "
                f"{self.timesteps.value}"
            )
        if not 0 < self.ndtc_mean <= 0.5:
            raise ValueError(f"quantizer.calibration.ndtc_mean={self.ndtc_mean}: must be in (0, 0.5]")

    def check(self, num_inference_steps: int) -> None:
        """Raise ValueError where the plan asks for more evenly spaced steps than the sampler takes."""
        drawn = self.timesteps is not TimestepChoice.uniform
        if not drawn and self.num_steps is not None and self.num_steps > num_inference_steps:
            raise ValueError(
                f"quantizer.calibration.num_steps={self.num_steps}: must lie in 1..{num_inference_steps}, the "
                "sampler's num_inference_steps"
            )
