"""What a calibration set is made of: which samples, and which timesteps of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

NDTC_STREAM = 3  # next to qvd.models.sampling.SPLITS: the draws share no random state with any noise


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
        num_steps: captured timesteps per sample: evenly spaced sampler steps, or independent draws of NDTC.
        timesteps: how they are chosen.
        ndtc_mean: mean of `ndtc_paper` as a share of T, in (0, 0.5]; 0.5 is ours, the paper gives only the bound.
    """

    num_samples: int
    num_steps: int
    timesteps: TimestepChoice = TimestepChoice.uniform
    ndtc_mean: float = 0.5

    def __post_init__(self) -> None:
        for name in ("num_samples", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"quantizer.calibration.{name}={getattr(self, name)}: must be at least 1")
        if not 0 < self.ndtc_mean <= 0.5:
            raise ValueError(f"quantizer.calibration.ndtc_mean={self.ndtc_mean}: must be in (0, 0.5]")

    def check(self, num_inference_steps: int) -> None:
        """Raise ValueError where the plan asks for more evenly spaced steps than the sampler takes."""
        if self.timesteps is TimestepChoice.uniform:
            captured_steps(num_inference_steps, self.num_steps)


def captured_steps(num_inference_steps: int, num_steps: int) -> list[int]:
    """Evenly spaced positions in the sampling loop, first and last included.

    Raises:
        ValueError: when more steps are asked for than the sampler takes.
    """
    if not 1 <= num_steps <= num_inference_steps:
        raise ValueError(
            f"calibration.num_steps={num_steps}: must lie in 1..{num_inference_steps}, the sampler's number of steps"
        )
    return np.unique(np.linspace(0, num_inference_steps - 1, num_steps).round().astype(int)).tolist()


def drawn_timesteps(plan: CalibrationPlan, train_timesteps: int, seed: int, index: int) -> np.ndarray:
    """(num_steps,) int64 in [0, T - 1]: NDTC's draws for sample number `index`, whatever batch it is captured in."""
    released = plan.timesteps is TimestepChoice.ndtc_released
    mean = (0.4 if released else plan.ndtc_mean) * train_timesteps
    std = 0.4 * train_timesteps if released else (train_timesteps / 2) ** 0.5
    generator = np.random.default_rng(np.random.SeedSequence([seed, NDTC_STREAM, index]))
    drawn = np.floor(generator.normal(mean, std, plan.num_steps))
    return drawn.clip(0, train_timesteps - 1).astype(np.int64)


def steps_of_samples(
    plan: CalibrationPlan, timesteps: Sequence[float], train_timesteps: int, seed: int, indices: Sequence[int]
) -> list[list[int]]:
    """For each sample, the positions in the sampling loop at which it is captured, a repeated draw repeated.

    Args:
        timesteps: the sampler's own, in loop order; a drawn t is captured at the nearest of them.
        train_timesteps: T.
    """
    if plan.timesteps is TimestepChoice.uniform:
        return [captured_steps(len(timesteps), plan.num_steps)] * len(indices)
    loop = np.asarray(timesteps, dtype=np.float64)
    draws = [drawn_timesteps(plan, train_timesteps, seed, index) for index in indices]
    return [np.abs(loop - drawn[:, None]).argmin(1).tolist() for drawn in draws]
