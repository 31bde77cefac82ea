"""One run: every arm through the stages, tracked, then the table, the pictures and the report."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml

from experiments.arms import ArmRunner, Outcome
from experiments.comparison import Setting, compare_arms
from experiments.config.nodes import nearest
from experiments.config.run_config import FP, Arm, RunConfig
from experiments.export import VIDEOS, export_arms
from experiments.folders import METRICS
from experiments.progress import Reporter
from experiments.prompts import check_prompts
from experiments.provenance import provenance
from experiments.record import metrics_document
from experiments.report.comparison_tables import write_comparisons
from experiments.report.html import write_report
from experiments.report.media import write_gif, write_grid, write_mp4
from experiments.report.table import build_table
from experiments.report.tabular import render_terminal, to_csv, to_markdown
from experiments.result import ArmResult
from experiments.scores import FILE as SCORES
from experiments.scores import write_scores
from experiments.stages.figure_stage import choose_studied, run_figures
from experiments.tracking.wandb_run import ArmTracker, check_tracking
from metrics.devices import check_device
from metrics.registry import declared_metrics, ranking_metric
from qvd.models.loading import check_folders
from qvd.store.artifacts import NotStoredError, Store
from qvd.store.inventory import LEDGER

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """What a run leaves behind.

    Attributes:
        folder: of its files.
        objective: the value of its objective for its only quantized arm; None where there are several arms, or none.
    """

    folder: Path
    objective: float | None


def run_experiment(config: RunConfig, run_dir: Path, resolved: str, overrides: list[str]) -> FinishedRun:
    """Compute and show every arm; the FP model always comes first, because the others are measured against it.

    Args:
        config: the validated run.
        run_dir: everything the run writes apart from artifacts goes there.
        resolved: the composed config as YAML, for the report and the tracker.
        overrides: the command line's words, from which each arm's own command is made.

    Returns:
        Its folder and what it is judged by.

    Raises:
        ValueError: an objective that is no metric.
    """
    objective = _objective_key(config.objective)
    check_device(config.device)
    run_dir.mkdir(parents=True, exist_ok=True)
    check_tracking(config)
    reporter, store, arms = Reporter(), Store(config.store, ledger=run_dir / LEDGER), config.all_arms
    _log_environment(config)
    runner = ArmRunner(config, store, reporter, overrides)
    check_folders(config.model)
    prompts_cut = check_prompts(config)
    for cut in prompts_cut:
        reporter.say(f"warning: {cut.note}")
    for arm in config.arms:
        runner.stages.check_rules(arm)
    for n_videos in {arm.n_videos for arm in arms}:
        runner.evaluator(n_videos).reference_features()
    stored = stored_outcomes(config, arms, overrides, run_dir / LEDGER)
    missing = [arm for arm, outcome in zip(arms, stored, strict=True) if outcome is None]
    config.engine.fill(config, missing, overrides, reporter)
    outcomes = [outcome or runner.run(arm) for arm, outcome in zip(arms, stored, strict=True)]
    results = [replace(result, prompts_cut=prompts_cut) for result, _ in outcomes]
    studied = [inside for _, inside in outcomes if inside is not None]
    settings = compare_arms(results)
    figures = run_figures(runner.stages, results, choose_studied(studied), settings)
    show(config, run_dir, results, settings, figures, resolved, overrides)
    return FinishedRun(run_dir, _objective(results, objective))


def _log_environment(config: RunConfig) -> None:
    """In the log: code, versions, platform, device, threads, processes and store."""
    device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else config.device
    facts = {"device": device, "threads": torch.get_num_threads(), "workers": config.workers, "store": config.store}
    log.info("%s", ", ".join(f"{name} {value}" for name, value in {**provenance(), **facts}.items()))


def stored_outcomes(config: RunConfig, arms: Sequence[Arm], overrides: list[str], ledger: Path) -> list[Outcome | None]:
    """The outcome of each arm that the store holds completely."""
    runner = ArmRunner(config, Store(config.store, read_only=True, ledger=ledger), Reporter(quiet=True), overrides)
    outcomes: list[Outcome | None] = []
    for arm in arms:
        try:
            outcomes.append(runner.run(arm))
        except NotStoredError:
            outcomes.append(None)
    return outcomes


def show(
    config: RunConfig,
    run_dir: Path,
    results: list[ArmResult],
    settings: Sequence[Setting],
    figures: Mapping[str, bytes],
    resolved: str,
    overrides: list[str],
) -> None:
    """Write everything a person looks at into the run folder, log it, and print the table."""
    table = build_table(results, settings=settings)
    (run_dir / METRICS).write_text(json.dumps(metrics_document(results), indent=2) + "\n")
    (run_dir / "table.md").write_text(to_markdown(table))
    (run_dir / "table.csv").write_text(to_csv(table))
    write_scores(run_dir / SCORES, {arm.name: (arm.prompts, arm.scores) for arm in results})
    write_comparisons(run_dir, settings)
    write_grid(results, run_dir / "grid.png")
    write_gif(results, run_dir / "samples.gif")
    write_mp4(results, run_dir / "samples.mp4")
    facts = {**provenance(), "seed": config.seed, "command": shlex.join(["python", "run.py", *overrides])}
    report = write_report(results, run_dir, resolved, facts, figures, settings)
    fp_arms = {arm.conditions.n_videos: arm for arm in results if arm.quantizer == FP}
    render_terminal(table)  # before the tracker, whose server may fail
    export_arms(results, run_dir, config.export, Reporter())
    tracker = ArmTracker(config.tracking, run_dir, config.experiment, yaml.safe_load(resolved), table)
    shows_fp = any(arm.bits.is_float for arm in config.arms)
    for arm in results:
        if arm.quantizer == FP and not shows_fp:
            continue
        tracker.track(arm, fp_arms[arm.conditions.n_videos], figures if arm is results[-1] else {})
    if config.export.count(config.n_videos):
        print(f"videos: {run_dir / VIDEOS}")
    print(f"report: {report}")


def _objective_key(asked: str | None) -> str:
    allowed = [metric.key for metric in declared_metrics()]
    key = asked or ranking_metric().key
    if key not in allowed:
        raise ValueError(f"objective={key}: {nearest(key, allowed)}")
    return key


def _objective(results: Sequence[ArmResult], key: str) -> float | None:
    quantized = [arm for arm in results if arm.quantizer != FP]
    return quantized[0].estimate(key).value if len(quantized) == 1 else None
