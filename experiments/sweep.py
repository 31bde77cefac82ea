"""The joint table of a multirun: every job's arms side by side, each with what tells its job apart."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from experiments.logs import RUN_LOG
from metrics.errors import BAD, BAD_INPUT, error_lines, print_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.result import ArmMetrics, FailedJob

METRICS, FAILURE = "metrics.json", "failure.json"
_ARM_WORDS = ("quantizer", "bits", "experiment")  # the arm's name says these


class JointTable(Callback):
    """Hydra's hook after the last job of `python run.py --multirun …`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
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


def read_sweep(folder: Path) -> list[ArmMetrics]:
    """The arms of every finished job below a sweep's folder, in the jobs' order; the same FP arm only once."""
    from experiments.record import TIMINGS, arm_from_record
    from experiments.scores import FILE as SCORES
    from experiments.scores import read_scores

    arms: dict[str, ArmMetrics] = {}
    for job, setting in _jobs(folder):
        if (job / FAILURE).exists():  # whatever an earlier run has left beside it
            continue
        scores = read_scores(job / SCORES) if (job / SCORES).exists() else {}  # an older job has none
        for record in json.loads((job / METRICS).read_text())["arms"].values():
            same = {key: value for key, value in record.items() if key not in (*TIMINGS, "command")}
            identity = json.dumps([setting, same], sort_keys=True)
            arm = arm_from_record(record, setting)
            arms.setdefault(identity, replace(arm, scores=scores.get(arm.name, arm.scores)))
    return list(arms.values())


def read_failures(folder: Path) -> list[FailedJob]:
    """Every failed job below a sweep's folder, in the jobs' order."""
    from experiments.result import FailedJob

    failed = [(job / FAILURE, setting) for job, setting in _jobs(folder) if (job / FAILURE).exists()]
    return [FailedJob(**json.loads(kept.read_text()), setting=setting) for kept, setting in failed]


def _jobs(folder: Path) -> list[tuple[Path, str]]:
    """The folder and the setting of every job that has ended, in their order."""
    ended = {path.parent for name in (METRICS, FAILURE) for path in folder.glob(f"*/{name}")}
    jobs = sorted(ended, key=lambda job: int(job.name.partition("-")[0]))
    words = [list(OmegaConf.load(job / ".hydra" / "overrides.yaml")) for job in jobs]
    return list(zip(jobs, settings(words), strict=True))


def settings(jobs: Sequence[Sequence[str]]) -> list[str]:
    """For each job's command-line words, those that not all jobs share; an arm's own words are left out.

    A group's choice stands without its group ("tiny_latte"), a value with its key ("seed=4").
    """
    from experiments.config.groups import GROUPS

    shared = set.intersection(*(set(words) for words in jobs)) if jobs else set()
    told: list[str] = []
    for words in jobs:
        own = [word for word in words if word not in shared and word.partition("=")[0] not in _ARM_WORDS]
        told.append(", ".join(word.partition("=")[2] if word.partition("=")[0] in GROUPS else word for word in own))
    return told


def write_joint_table(arms: Sequence[ArmMetrics], folder: Path, failures: Sequence[FailedJob] = ()) -> None:
    """Write table.md, table.csv, metrics.json, the comparisons within each setting and, where one number was swept,
    curves for each bit width; print the table."""
    from experiments.comparison import compare_arms
    from experiments.record import arm_record
    from experiments.report.comparison_tables import write_comparisons
    from experiments.report.curve_figures import disparity_figure
    from experiments.report.figures import to_png
    from experiments.report.table import build_table
    from experiments.report.tabular import render_terminal, to_csv, to_markdown

    settings = compare_arms(arms)
    table = build_table(arms, title="Results of the sweep", failures=failures, settings=settings)
    write_comparisons(folder, settings)
    (folder / "table.md").write_text(to_markdown(table))
    (folder / "table.csv").write_text(to_csv(table))
    records = [*({"setting": arm.setting, **arm_record(arm)} for arm in arms), *map(asdict, failures)]
    (folder / METRICS).write_text(json.dumps(records, indent=2) + "\n")
    swept = swept_number(arms)
    if swept is not None:
        key, by_value = swept
        for bits in dict.fromkeys(arm.bits for arm in arms if arm.bits != "fp"):
            of_bits = {value: [arm for arm in of_value if arm.bits == bits] for value, of_value in by_value.items()}
            (folder / f"curves-{bits}.png").write_bytes(to_png(disparity_figure(of_bits, label=key)))
    render_terminal(table)


def swept_number(arms: Sequence[ArmMetrics]) -> tuple[str, dict[float, list[ArmMetrics]]] | None:
    """The one key whose numbers tell the jobs apart, and the arms at each of them; None for any other sweep."""
    by_value: dict[float, list[ArmMetrics]] = {}
    keys = {arm.setting.partition("=")[0] for arm in arms}
    for arm in arms:
        try:
            by_value.setdefault(float(arm.setting.partition("=")[2]), []).append(arm)
        except ValueError:
            return None
    return (keys.pop(), by_value) if len(keys) == 1 and len(by_value) > 1 else None
