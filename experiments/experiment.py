"""One run: every arm through the stages, tracked, then the table, the pictures and the report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.config import Arm, RunConfig
from experiments.evaluation import Evaluator
from experiments.figure_stage import StudiedArm, choose_studied, run_figures
from experiments.media import write_gif, write_grid, write_mp4
from experiments.progress import Reporter
from experiments.report import write_report
from experiments.result import ArmResult
from experiments.stages import StageOutput, StageResult, Stages
from experiments.table import build_table, render_terminal, to_csv, to_markdown
from experiments.tracking import provenance, track_arm
from qvd.models.options import Init
from qvd.store import Store

_DENOISER_COSTS = ("model_bytes", "macs", "bops")


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
    run_dir.mkdir(parents=True, exist_ok=True)
    reporter, store = Reporter(), Store(config.store)
    stages, evaluator = Stages(config, store, reporter), Evaluator(config, store, reporter)
    prompts = stages.prompts("evaluation", range(config.n_videos))
    for arm in config.arms:
        stages.check_rules(arm)
    evaluator.reference_features()

    with reporter.on_arm("fp"):
        fp_samples = stages.samples(None)
        results = [_evaluate_fp(config, stages, evaluator, fp_samples, prompts, _command(overrides, ("quantizer=fp",)))]
    studied = []
    for arm in config.arms:
        if arm.bits.weight is None:
            continue
        with reporter.on_arm(arm.name):
            result, inside = _run_arm(config, arm, stages, evaluator, fp_samples, prompts, overrides)
        results.append(result)
        studied.append(inside)
    figures = run_figures(stages, results, choose_studied(studied))
    show(config, run_dir, results, figures, resolved, overrides)
    return run_dir


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
    listed = {str(arm.bits) for arm in config.arms}
    for arm in results if "fp" in listed else results[1:]:
        track_arm(
            config.tracking,
            run_dir,
            arm,
            config=yaml.safe_load(resolved),
            group=config.experiment,
            tags=[],
            fp_arm=results[0],
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
    compared = results[1:] or results
    return {**(compared[0].metrics if len(compared) == 1 else {}), "arms": arms}


def _run_arm(
    config: RunConfig,
    arm: Arm,
    stages: Stages,
    evaluator: Evaluator,
    fp_samples: StageResult,
    prompts: list[str],
    overrides: list[str],
) -> tuple[ArmResult, StudiedArm]:
    calibration = stages.calibration(arm.method.calibration)
    ranges = stages.ranges(calibration)
    quantized = stages.quantization(arm, calibration, ranges)
    samples = stages.samples(quantized)
    sqnr = stages.step_sqnr(quantized)
    metrics = evaluator.metrics(samples, fp_samples, prompts)
    timed: dict[str, StageOutput] = {
        "calibration": calibration,
        "ranges": ranges,
        "quantization": quantized,
        "sampling": samples,
        "sqnr": sqnr,
        "metrics": metrics,
    }
    result = ArmResult(
        variant=arm.variant,
        quantizer=arm.quantizer,
        bits=str(arm.bits),
        metrics={
            **_provenance_of_numbers(config, evaluator),
            **metrics.metadata,
            **sqnr.metadata,
            "quantization": quantized.metadata["summary"],
            **{name: quantized.metadata[name] for name in _DENOISER_COSTS},
            **_costs(timed),
        },
        prompts=prompts,
        videos=samples.tensors["videos"],
        quantization_map=quantized.metadata["map"],
        command=_command(overrides, arm.overrides),
        histograms=stages.histograms(ranges),
    )
    return result, StudiedArm(arm, quantized, ranges)


def _evaluate_fp(
    config: RunConfig, stages: Stages, evaluator: Evaluator, samples: StageResult, prompts: list[str], command: str
) -> ArmResult:
    metrics = evaluator.metrics(samples, samples, prompts)
    cost = stages.fp_cost().metadata
    return ArmResult(
        variant="fp",
        quantizer="fp",
        bits="fp",
        metrics={
            **_provenance_of_numbers(config, evaluator),
            **metrics.metadata,
            **{name: cost[name] for name in _DENOISER_COSTS},
            **_costs({"sampling": samples, "metrics": metrics}),
        },
        prompts=prompts,
        videos=samples.tensors["videos"],
        quantization_map=[],
        command=command,
    )


def _provenance_of_numbers(config: RunConfig, evaluator: Evaluator) -> dict[str, Any]:
    """What a number must carry to mean anything."""
    return {
        "protocol": config.protocol.name,
        "model": config.model_name,
        "embedded": config.model.embedded,
        "random_weights": config.model.init is Init.random,
        "reference": config.dataset.describe(),
        "extractor": {"name": evaluator.extractor.name, "sha256": evaluator.extractor.sha256},
        "n_videos": config.n_videos,
        "num_frames": config.model.num_frames,
        "resolution": config.model.resolution,
        "num_inference_steps": config.num_inference_steps,
        "seed": config.seed,
    }


def _costs(timed: Mapping[str, StageOutput]) -> dict[str, dict[str, float]]:
    return {
        "seconds": {stage: round(result.seconds, 3) for stage, result in timed.items()},
        "peak_memory_bytes": {stage: result.peak_memory_bytes for stage, result in timed.items()},
    }


def _command(overrides: list[str], arm_overrides: tuple[str, ...]) -> str:
    """The command that repeats one arm alone: the run's own words, with the arm's in place of the experiment's."""
    replaced = {word.partition("=")[0] for word in arm_overrides} | {"experiment", "bits"}
    keys = [(word, word.lstrip("+~").partition("=")[0]) for word in overrides]
    kept = [word for word, key in keys if key not in replaced and not key.startswith("experiment.")]
    return shlex.join(["python", "run.py", *kept, *arm_overrides])
