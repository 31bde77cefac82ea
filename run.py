"""Compose the config, validate it, run the stages, show the table: `python run.py --help`."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.config.build import build_run_config
from experiments.config.keys import check_words
from experiments.logs import RUN_LOG, logged
from experiments.sweep import job_errors
from metrics.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the config; to a Hydra sweeper its objective, which is no number for a job that failed."""
    hydra_config = HydraConfig.get()
    folder, words = Path(hydra_config.runtime.output_dir), list(hydra_config.overrides.task)
    is_job = hydra_config.mode is RunMode.MULTIRUN
    errors = job_errors(folder, **describe(config, hydra_config)) if is_job else nullcontext()
    with one_line_errors(log=folder / RUN_LOG), errors, logged(folder, words):
        run = build_run_config(config, dict(hydra_config.runtime.choices), check_words(words))

        from experiments.experiment import run_experiment

        resolved = OmegaConf.to_yaml(config, resolve=True)
        finished = run_experiment(run, run_dir=folder, resolved=resolved, overrides=words)
        print(finished.folder)
        return finished.objective
    return float("nan")


def describe(config: DictConfig, hydra_config: HydraConf) -> dict[str, str]:
    """What the table of a sweep says of a job that failed, maybe before its config was valid."""
    choices, bits = hydra_config.runtime.choices, str(OmegaConf.select(config, "bits"))
    own_arms = OmegaConf.select(config, "experiment.arms")
    name = choices["experiment"] if own_arms else f"{choices['quantizer']} {bits}"
    command = shlex.join(["python", "run.py", *hydra_config.overrides.task])
    return {"name": name, "quantizer": choices["quantizer"], "bits": bits, "command": command}


if __name__ == "__main__":
    with one_line_errors():
        arguments = get_args_parser().parse_args()
        check_words(arguments.overrides, is_sweep=arguments.multirun)
    main()
