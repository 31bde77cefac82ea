"""What a multirun is beyond its jobs: one that fails does not end it, and a table joins them all."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments.folders import FAILURE
from experiments.logs import RUN_LOG
from metrics.errors import BAD, BAD_INPUT, error_lines, print_error


class JointTable(Callback):
    """Hydra's hook after the last job of `python run.py --multirun …`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # Every run imports this class before its config is checked, and none but a sweep's end needs tables and torch.
        from experiments.report.joint_table import read_failures, read_sweep, write_joint_table

        folder = Path(config.hydra.sweep.dir)
        try:
            arms, failures = read_sweep(folder), read_failures(folder)
            if arms or failures:
                write_joint_table(arms, folder, failures)
                print(folder)
            else:
                print(f"no job of {folder} has finished: there is no joint table", file=sys.stderr)
        except Exception as error:  # which Hydra would make a warning
            print_error(error)
            raise SystemExit(BAD_INPUT) from None
        if failures:
            print(f"error: {len(failures)} of the sweep's jobs failed; its table says why", file=sys.stderr)
            raise SystemExit(BAD_INPUT)


@contextmanager
def job_errors(folder: Path, **job: str) -> Iterator[None]:
    """An error ends one job alone: it is printed, and kept in the job's folder for the sweep's table.

    Args:
        folder: of the job.
        job: what `FailedJob` says of it beside error and setting.
    """
    kept = folder / FAILURE
    kept.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        print_error(error, folder / RUN_LOG)
        reason = "; ".join(error_lines(error)) if isinstance(error, BAD) else f"{type(error).__name__}: {error}"
        kept.write_text(json.dumps({**job, "error": " ".join(reason.split())}))
