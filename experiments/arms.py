"""One arm at a time through the stages: from config to numbers, videos and map."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace

from experiments.config.run_config import Arm, RunConfig
from experiments.progress import Reporter
from experiments.record import split_estimates
from experiments.result import ArmResult, Conditions, Costs, ExtractorIdentity, ModelBytes, StepSqnr
from experiments.scores import Scores
from experiments.stages.evaluation import Evaluator
from experiments.stages.figure_stage import StudiedArm
from experiments.stages.staged import Staged
from experiments.stages.stages import StageOutput, Stages
from qvd.options.model import Init
from qvd.store.artifacts import Artifact, Store
from qvd.store.digest import fingerprint

Outcome = tuple[ArmResult, StudiedArm | None]


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

    def run(self, arm: Arm) -> Outcome:
        """The result of an arm, and what figures need to look inside; None for FP."""
        with self.reporter.on_arm(arm.name):
            stages = self.stages.for_videos(arm.n_videos)
            return self._floating_point(stages, arm) if arm.bits.is_float else self._quantized(stages, arm)

    def _floating_point(self, stages: Stages, arm: Arm) -> Outcome:
        samples, cost = stages.samples(None), stages.fp_cost()
        return self._result(stages, arm, samples, cost, {"sampling": samples}), None

    def _quantized(self, stages: Stages, arm: Arm) -> Outcome:
        calibration = stages.calibration(arm.method.calibration)
        ranges = stages.ranges(calibration)
        quantized = stages.quantization(arm, calibration, ranges)
        samples = stages.samples(quantized)
        sqnr = stages.step_sqnr(quantized)
        timed: dict[str, StageOutput] = {
            "calibration": calibration,
            "ranges": ranges,
            "quantization": quantized,
            "sampling": samples,
            "sqnr": sqnr,
        }
        result = self._result(stages, arm, samples, quantized, timed)
        result = replace(
            result,
            step_sqnr=StepSqnr(**sqnr.metadata),
            remarks={**result.remarks, "quantization": quantized.metadata["summary"]},
            quantization_map=quantized.metadata["map"],
            histograms=stages.histograms(ranges),
        )
        return result, StudiedArm(arm, quantized, ranges)

    def _result(
        self,
        stages: Stages,
        arm: Arm,
        samples: Staged,
        denoiser: Artifact,
        timed: Mapping[str, StageOutput],
    ) -> ArmResult:
        """What every arm has: metrics, costs and the command that repeats it; `denoiser` says what one call costs."""
        prompts = stages.prompts("evaluation", range(arm.n_videos))
        metrics = self.evaluator(arm.n_videos).metrics(samples, stages.samples(None), prompts)
        estimates, remarks = split_estimates(metrics.metadata)
        del remarks["n_videos"]  # a condition
        return ArmResult(
            variant=arm.variant,
            quantizer=arm.quantizer,
            bits=str(arm.bits),
            conditions=self._conditions(stages, prompts),
            costs=_costs(denoiser, {**timed, "metrics": metrics}),
            estimates=estimates,
            remarks=remarks,
            prompts=prompts,
            videos=samples.videos,
            quantization_map=[],
            scores=Scores.from_tensors(metrics.tensors),
            command=_command(self.overrides, arm.overrides),
        )

    def _conditions(self, stages: Stages, prompts: list[str]) -> Conditions:
        config, extractor = stages.config, self.evaluator(len(prompts)).extractor
        return Conditions(
            protocol=config.protocol.name,
            model=config.model_name,
            embedded=config.model.embedded,
            random_weights=config.model.init is Init.random,
            reference=config.dataset.describe(),
            extractor=ExtractorIdentity(extractor.name, extractor.sha256),
            n_videos=config.n_videos,
            num_frames=config.model.num_frames,
            resolution=config.model.resolution,
            num_inference_steps=config.num_inference_steps,
            seed=config.seed,
            prompts_digest=fingerprint(prompts),
            model_digest=stages.model_digest,
        )


def _costs(denoiser: Artifact, timed: Mapping[str, StageOutput]) -> Costs:
    return Costs(
        model_bytes=ModelBytes(**denoiser.metadata["model_bytes"]),
        macs=denoiser.metadata["macs"],
        bops=denoiser.metadata["bops"],
        seconds={stage: round(result.seconds, 3) for stage, result in timed.items()},
        peak_memory_bytes={stage: result.peak_memory_bytes for stage, result in timed.items()},
    )


def _command(overrides: list[str], arm_overrides: tuple[str, ...]) -> str:
    """The command that repeats one arm alone: the run's own words, with the arm's in place of the experiment's."""
    replaced = {word.partition("=")[0] for word in arm_overrides} | {"experiment", "bits"}
    keys = [(word, word.lstrip("+~").partition("=")[0]) for word in overrides]
    kept = [word for word, key in keys if key not in replaced and not key.startswith("experiment.")]
    return shlex.join(["python", "run.py", *kept, *arm_overrides])
