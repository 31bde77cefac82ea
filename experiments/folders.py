"""A folder of its own for every run and sweep, however many start in one second."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from metrics.errors import one_line_errors

METRICS, FAILURE = "metrics.json", "failure.json"  # a run's results, or why a job of a sweep has none


def claim(folder: Path) -> Path:
    """Make the folder, or, where it is there, the first free one of `folder-2`, `folder-3`, …, and return its path.

    Making is the test, so that of two processes, on two machines even, only one gets a name.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            own.mkdir()
        except FileExistsError:
            continue
        return own
    raise AssertionError("there is always a next number")


class OwnFolder(Callback):
    """Hydra's hook before a run or sweep. A folder that the command line names is taken as it is."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _claim(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _claim(config, "hydra.sweep.dir")


def _claim(config: DictConfig, key: str) -> None:
    HydraConfig.instance().set_config(config)  # the name tells choices
    words = config.hydra.overrides.hydra
    if any(word.lstrip("+").startswith(f"{key}=") for word in words):
        return
    with one_line_errors():  # Hydra would make a warning of an error, and go on
        folder = str(claim(Path(OmegaConf.select(config, key))))
    with read_write(config.hydra), open_dict(config.hydra):
        OmegaConf.update(config, key, folder)
        # the configs of a sweep's jobs are composed anew, from these words
        words.append(f"{key}={QuotedString(folder, Quote.single).with_quotes()}")
