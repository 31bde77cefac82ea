"""Which timesteps of which samples a calibration set captures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qvd.options.calibration import CalibrationPlan, TimestepChoice

NDTC_STREAM = 3  # next to qvd.models.sampling.SPLITS: the draws share no random state with any noise


def captured_steps(num_inference_steps: int, num_steps: int | None) -> list[int]:
    """Evenly spaced positions in the sampling loop, first and last included; None: all of them.

    Raises:
        ValueError: when more steps are asked for than the sampler takes.
    """
    if num_steps is None:
        return list(range(num_inference_steps))
    if not 1 <= num_steps <= num_inference_steps:
        raise ValueError(
            f"calibration.num_steps={num_steps}: must lie in 1..{num_inference_steps}, the sampler's number of steps"
        )
    return np.unique(np.linspace(0, num_inference_steps - 1, num_steps).round().astype(int)).tolist()


def drawn_timesteps(plan: CalibrationPlan, train_timesteps: int, seed: int, index: int) -> np.ndarray:
    """(num_steps,) int64 in [0, T - 1]: NDTC's draws for sample number `index`, whatever batch it is captured in."""
    assert plan.num_steps is not None, "options refuse null beside drawn timesteps"
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
