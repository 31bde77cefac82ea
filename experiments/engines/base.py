"""What an engine is: something that computes a run's arms, wherever that may be, until the store holds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from experiments.config.run_config import Arm, RunConfig
from experiments.options import EngineOptions
from experiments.progress import Reporter


class Engine(EngineOptions, ABC):
    """Fills the store. Results do not depend on the engine: each arm is a function of its config and seeds."""

    @abstractmethod
    def fill(self, config: RunConfig, arms: Sequence[Arm], overrides: list[str], reporter: Reporter) -> None:
        """Have everything in `config.store` that the arms are made of; what is missing is computed afterwards.

        Args:
            config: the run.
            arms: those that the store does not hold completely.
            overrides: the command line's words, from which each arm's own command is made.
            reporter: shows how far it is.

        Raises:
            ValueError: bad input that only showed while an arm was computed.
            ChildProcessError: a worker was killed.
        """
