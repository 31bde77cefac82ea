"""Compose the config, validate it, run the stages, show the table: `python run.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.config.build import build_run_config, check_group_choices
from metrics.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    with one_line_errors():
        hydra_config = HydraConfig.get()
        run = build_run_config(config, dict(hydra_config.runtime.choices))

        from experiments.experiment import run_experiment

        folder = run_experiment(
            run,
            run_dir=Path(hydra_config.runtime.output_dir),
            resolved=OmegaConf.to_yaml(config, resolve=True),
            overrides=list(hydra_config.overrides.task),
        )
        print(folder)


if __name__ == "__main__":
    with one_line_errors():
        check_group_choices(sys.argv[1:])
    main()
