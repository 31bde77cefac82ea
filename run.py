"""Compose the config, validate it, run the stages, show the table: `python run.py --help`."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.config.build import build_run_config, check_group_choices
from experiments.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the config; to a Hydra sweeper its objective."""
    with one_line_errors():
        hydra_config = HydraConfig.get()
        run = build_run_config(config, dict(hydra_config.runtime.choices))

        from experiments.experiment import run_experiment

        finished = run_experiment(
            run,
            run_dir=Path(hydra_config.runtime.output_dir),
            resolved=OmegaConf.to_yaml(config, resolve=True),
            overrides=list(hydra_config.overrides.task),
        )
        print(finished.folder)
        return finished.objective


if __name__ == "__main__":
    with one_line_errors():
        check_group_choices(get_args_parser().parse_args().overrides)
    main()
