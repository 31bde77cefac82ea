"""One run: every arm through the stages, tracked, then the table, the pictures and the report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.arms import ArmRunner, Outcome
from experiments.config.run_config import FP, Arm, RunConfig
from experiments.progress import Reporter
from experiments.provenance import provenance
from experiments.report.html import write_report
from experiments.report.media import write_gif, write_grid, write_mp4
from experiments.report.table import build_table
from experiments.report.tabular import render_terminal, to_csv, to_markdown
from experiments.result import ArmResult
from experiments.stages.figure_stage import choose_studied, run_figures
from experiments.tracking.wandb_run import track_arm
from metrics.devices import check_device
from qvd.store.artifacts import NotStoredError, Store


def run_experiment(config: RunConfig, run_dir: Path, resolved: str, overrides: list[str]) -> Path:
    """Compute and show every arm; the FP model always comes first, because the others are measured against it.

    Args:
        config: the validated run.
        run_dir: everything the run writes apart from artifacts goes there.
        resolved: the composed config as YAML, for the report and the tracker.
        overrides: the command line's words, from which each arm's own command is made.

    Returns:
        The run folder.
    """
    check_device(config.device)
    run_dir.mkdir(parents=True, exist_ok=True)
    reporter, store, arms = Reporter(), Store(config.store), config.all_arms
    runner = ArmRunner(config, store, reporter, overrides)
    for arm in config.arms:
        runner.stages.check_rules(arm)
    for n_videos in {arm.n_videos for arm in arms}:
        runner.evaluator(n_videos).reference_features()
    stored = stored_outcomes(config, arms, overrides)
    missing = [arm for arm, outcome in zip(arms, stored, strict=True) if outcome is None]
    config.engine.fill(config, missing, overrides, reporter)
    outcomes = [outcome or runner.run(arm) for arm, outcome in zip(arms, stored, strict=True)]
    results = [result for result, _ in outcomes]
    studied = [inside for _, inside in outcomes if inside is not None]
    figures = run_figures(runner.stages, results, choose_studied(studied))
    show(config, run_dir, results, figures, resolved, overrides)
    return run_dir


def stored_outcomes(config: RunConfig, arms: Sequence[Arm], overrides: list[str]) -> list[Outcome | None]:
    """The outcome of each arm that the store holds completely."""
    runner = ArmRunner(config, Store(config.store, read_only=True), Reporter(quiet=True), overrides)
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
    figures: Mapping[str, bytes],
    resolved: str,
    overrides: list[str],
) -> None:
    """Write everything a person looks at into the run folder, log it, and print the table."""
    table = build_table(results)
    (run_dir / "metrics.json").write_text(json.dumps(metrics_document(results), indent=2) + "\n")
    (run_dir / "table.md").write_text(to_markdown(table))
    (run_dir / "table.csv").write_text(to_csv(table))
    write_grid(results, run_dir / "grid.png")
    write_gif(results, run_dir / "samples.gif")
    write_mp4(results, run_dir / "samples.mp4")
    facts = {**provenance(), "seed": config.seed, "command": shlex.join(["python", "run.py", *overrides])}
    report = write_report(results, run_dir, resolved, facts, figures)
    fp_arms = {arm.metrics["n_videos"]: arm for arm in results if arm.quantizer == FP}
    shows_fp = any(arm.bits.is_float for arm in config.arms)
    for arm in results:
        if arm.quantizer == FP and not shows_fp:
            continue
        track_arm(
            config.tracking,
            run_dir,
            arm,
            config=yaml.safe_load(resolved),
            group=config.experiment,
            tags=[],
            fp_arm=fp_arms[arm.metrics["n_videos"]],
            table=table,
            figures=figures if arm is results[-1] else {},
        )
    render_terminal(table)
    print(f"report: {report}")


def metrics_document(results: list[ArmResult]) -> dict[str, Any]:
    """What metrics.json holds: every arm by name, and a single arm's metrics at the top level as well."""
    arms = {
        result.name: {
            "variant": result.variant,
            "quantizer": result.quantizer,
            "bits": result.bits,
            **result.metrics,
            "command": result.command,
        }
        for result in results
    }
    compared = [result for result in results if result.quantizer != FP] or results
    return {**(compared[0].metrics if len(compared) == 1 else {}), "arms": arms}
