"""The joint table of a multirun: every job's arms side by side, each with what tells its job apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from omegaconf import OmegaConf

from experiments.comparison import compare_arms
from experiments.config.groups import GROUPS
from experiments.folders import FAILURE, METRICS
from experiments.record import TIMINGS, arm_from_record, arm_record
from experiments.report.comparison_tables import write_comparisons
from experiments.report.curve_figures import disparity_figure
from experiments.report.figures import to_png
from experiments.report.table import build_table
from experiments.report.tabular import render_terminal, to_csv, to_markdown
from experiments.result import ArmMetrics, FailedJob
from experiments.scores import FILE as SCORES
from experiments.scores import read_scores

_ARM_WORDS = ("quantizer", "bits", "experiment")  # the arm's name says these


def read_sweep(folder: Path) -> list[ArmMetrics]:
    """The arms of every finished job below a sweep's folder, in the jobs' order; the same FP arm only once."""
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
    shared = set.intersection(*(set(words) for words in jobs)) if jobs else set()
    told: list[str] = []
    for words in jobs:
        own = [word for word in words if word not in shared and word.partition("=")[0] not in _ARM_WORDS]
        told.append(", ".join(word.partition("=")[2] if word.partition("=")[0] in GROUPS else word for word in own))
    return told


def write_joint_table(arms: Sequence[ArmMetrics], folder: Path, failures: Sequence[FailedJob] = ()) -> None:
    """Write table.md, table.csv, metrics.json, the comparisons within each setting and, where one number was swept,
    curves for each bit width; print the table."""
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
