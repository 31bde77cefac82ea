"""One arm at a time through the stages: from config to numbers, videos and map."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from experiments.config.run_config import Arm, RunConfig
from experiments.progress import Reporter
from experiments.result import ArmResult
from experiments.stages.evaluation import Evaluator
from experiments.stages.figure_stage import StudiedArm
from experiments.stages.stages import StageOutput, Stages
from qvd.options.model import Init
from qvd.store.artifacts import Store

Task = int | Arm  # an arm, or the FP model on so many videos
Outcome = tuple[ArmResult, StudiedArm | None]
_DENOISER_COSTS = ("model_bytes", "macs", "bops")


def tasks_of(config: RunConfig) -> list[Task]:
    """A run's arms in the table's order, the FP model before the first that is measured on as many videos."""
    tasks: list[Task] = [config.n_videos]
    for arm in config.arms:
        if arm.n_videos not in tasks:
            tasks.append(arm.n_videos)
        if arm.bits.weight is not None:
            tasks.append(arm)
    return tasks


class ArmRunner:
    """Computes the arms of a run over one store; what several arms need is loaded once."""

    def __init__(self, config: RunConfig, store: Store, reporter: Reporter, overrides: list[str]) -> None:
        """`overrides`: the command line's words, from which each arm's own command is made."""
        self.config, self.store, self.reporter, self.overrides = config, store, reporter, overrides
        self.stages = Stages(config, store, reporter)
        self._evaluators: dict[int, Evaluator] = {}

    def evaluator(self, n_videos: int) -> Evaluator:
        """The metrics of so many videos."""
        if n_videos not in self._evaluators:
            config = replace(self.config, n_videos=n_videos)
            self._evaluators[n_videos] = Evaluator(config, self.store, self.reporter)
        return self._evaluators[n_videos]

    def run(self, task: Task) -> Outcome:
        """The result of a task, and what figures need to look inside; None for FP."""
        if isinstance(task, int):
            name = self._fp_name(task)
            with self.reporter.on_arm(name):
                return self._floating_point(task, name), None
        with self.reporter.on_arm(task.name):
            return self._quantized(task)

    def _fp_name(self, n_videos: int) -> str:
        return "fp" if n_videos == self.config.n_videos else f"fp, N = {n_videos}"

    def _floating_point(self, n_videos: int, name: str) -> ArmResult:
        stages = self.stages.for_videos(n_videos)
        samples, prompts = stages.samples(None), stages.prompts("evaluation", range(n_videos))
        metrics = self.evaluator(n_videos).metrics(samples, samples, prompts)
        cost = stages.fp_cost().metadata
        own = () if n_videos == self.config.n_videos else (f"n_videos={n_videos}",)
        return ArmResult(
            variant=name,
            quantizer="fp",
            bits="fp",
            metrics={
                **self._provenance_of_numbers(n_videos),
                **metrics.metadata,
                **{name: cost[name] for name in _DENOISER_COSTS},
                **_costs({"sampling": samples, "metrics": metrics}),
            },
            prompts=prompts,
            videos=samples.tensors["videos"],
            quantization_map=[],
            command=_command(self.overrides, ("quantizer=fp", *own)),
        )

    def _quantized(self, arm: Arm) -> Outcome:
        stages = self.stages.for_videos(arm.n_videos)
        prompts = stages.prompts("evaluation", range(arm.n_videos))
        calibration = stages.calibration(arm.method.calibration)
        ranges = stages.ranges(calibration)
        quantized = stages.quantization(arm, calibration, ranges)
        samples = stages.samples(quantized)
        sqnr = stages.step_sqnr(quantized)
        metrics = self.evaluator(arm.n_videos).metrics(samples, stages.samples(None), prompts)
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
                **self._provenance_of_numbers(arm.n_videos),
                **metrics.metadata,
                **sqnr.metadata,
                "quantization": quantized.metadata["summary"],
                **{name: quantized.metadata[name] for name in _DENOISER_COSTS},
                **_costs(timed),
            },
            prompts=prompts,
            videos=samples.tensors["videos"],
            quantization_map=quantized.metadata["map"],
            command=_command(self.overrides, arm.overrides),
            histograms=stages.histograms(ranges),
        )
        return result, StudiedArm(arm, quantized, ranges)

    def _provenance_of_numbers(self, n_videos: int) -> dict[str, Any]:
        """What a number must carry to mean anything."""
        config, extractor = self.config, self.evaluator(n_videos).extractor
        return {
            "protocol": config.protocol.name,
            "model": config.model_name,
            "embedded": config.model.embedded,
            "random_weights": config.model.init is Init.random,
            "reference": config.dataset.describe(),
            "extractor": {"name": extractor.name, "sha256": extractor.sha256},
            "n_videos": n_videos,
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
