"""What trainings of the embedded models are told: a dataclass whose fields are the command line's options."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Self

from experiments.training.loop import training_time


@dataclass(frozen=True)
class TrainingOptions:
    """What every training is told.

    Attributes:
        clips: how many, the first of the training split.
        seed: of the initial weights and of every batch.
        work_dir: where checkpoints are kept; the same command goes on from them.
    """

    clips: int = 12000
    seed: int = 0
    work_dir: Path = Path("outputs/training")

    @classmethod
    def from_command_line(cls, description: str | None) -> Self:
        """The options that this process was started with."""
        parser = argparse.ArgumentParser(description=description)
        for option in fields(cls):
            kind = type(option.default)
            parser.add_argument(_flag(option.name), type=kind, default=option.default, help="(default: %(default)s)")
        return cls(**vars(parser.parse_args()))

    def facts(self, module: str, *checkpoints: str) -> dict[str, str]:
        """Rows of the card: how to repeat the training, and how long it took.

        Args:
            module: name of the training command's module.
            checkpoints: names of the training's checkpoints in `work_dir`.
        """
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        flags = {_flag(name): str(value) for name, value in values.items() if not isinstance(value, Path)}
        words = ["python", "-m", f"experiments.training.{module}", *chain.from_iterable(flags.items())]
        return {
            "command": f"`{shlex.join(words)}`",
            "training time": training_time(*(self.work_dir / name for name in checkpoints)),
            "seed": str(self.seed),
        }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class DenoiserOptions(TrainingOptions):
    """What the training of a denoiser is told.

    Attributes:
        high_noise_share: see `experiments.training.denoiser.draw_timesteps`.
    """

    high_noise_share: float = 0.5
