"""How roundings and activation scales are learned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdaRoundSettings:
    """How rounding is learned (Adam, AdaRound's loss; Q-Diffusion, arXiv 2302.04304, released settings in brackets).

    Attributes:
        iterations: steps per unit [20,000].
        learning_rate: Adam's [1e-3]; fewer steps need a larger one, for α has to travel up to 2.4 to flip a weight.
        batch_size: entries per step of a block [32; 8 for Stable Diffusion]; a layer always sees all of them.
        regularization: weight of the regularizer [0.01].
        warmup: share of the steps without it [0.2].
        beta_start, beta_end: its annealing [20, 2].
        sweeps: greedy passes over a single layer's roundings after Adam, at most (ours, `gram.settle`); 0: none.
        entries: calibration entries that are used, evenly spaced; null: all.
        autocast: run a block's forward and backward in bfloat16.
        compile: run it through torch.compile; it pays from a few thousand steps per unit.
    """

    iterations: int = 500
    learning_rate: float = 1e-2
    batch_size: int = 8
    regularization: float = 0.01
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0
    sweeps: int = 10
    entries: int | None = None
    autocast: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        positive = ("iterations", "learning_rate", "batch_size", "beta_start", "beta_end", "entries")
        _check_positive("adaround", self, positive)
        if self.regularization < 0:
            raise ValueError(f"quantizer.adaround.regularization={self.regularization}: must not be negative")
        if self.sweeps < 0:
            raise ValueError(f"quantizer.adaround.sweeps={self.sweeps}: must not be negative")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"quantizer.adaround.warmup={self.warmup}: must be in [0, 1)")


@dataclass(frozen=True)
class LsqSettings:
    """How activation scales are learned (LSQ, Esser et al. 2020, arXiv 1902.08153; Adam with cosine decay to 0).

    Attributes:
        iterations: steps per unit [Q-Diffusion: 5,000]; 0: scales stay as they were found.
        learning_rate: Adam's first [4e-4].
        batch_size: entries per step.
        entries: calibration entries that are used, evenly spaced; null: all.
    """

    iterations: int = 100
    learning_rate: float = 4e-4
    batch_size: int = 8
    entries: int | None = None

    def __post_init__(self) -> None:
        _check_positive("lsq", self, ("learning_rate", "batch_size", "entries"))
        if self.iterations < 0:
            raise ValueError(f"quantizer.lsq.iterations={self.iterations}: must not be negative")


def _check_positive(group: str, settings: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise ValueError(f"quantizer.{group}.{name}={value}: must be positive")
