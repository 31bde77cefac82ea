"""The stages, wired: FP samples → calibration set → ranges → quantized denoiser → samples → features.

A stage is a function of its config and of its inputs' hashes. Every result comes from the store if it is there,
and the pipeline is loaded only when a stage really has to run.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import diffusers
import torch
from torch import nn

from experiments.config.run_config import Arm, RunConfig
from experiments.progress import Reporter
from experiments.stages import code
from experiments.stages.execution import executed, execution_inputs
from experiments.stages.staged import Staged
from metrics.fidelity import step_sqnr
from qvd.algorithms.reconstruction.unit_store import UnitStore
from qvd.calibration.capture import capture_calibration_batch
from qvd.calibration.observe import observe
from qvd.calibration.observers import Ranges
from qvd.graph.cost import denoiser_costs
from qvd.graph.trajectory import DenoiserCall, predictions, recorded_calls, teacher_forced
from qvd.methods.base import QuantizationContext
from qvd.methods.fp import FloatingPoint
from qvd.models.loading import load
from qvd.models.sampling import batches, sample_batch
from qvd.options.calibration import CalibrationPlan
from qvd.spec.quantization import Quantization
from qvd.store.artifacts import Artifact, Result, Store
from qvd.store.digest import fingerprint

SQNR_VIDEOS = 8


StageOutput = Staged | Artifact


class Stages:
    """Runs the stages of one config over one store."""

    def __init__(self, config: RunConfig, store: Store, reporter: Reporter) -> None:
        self.config, self.store, self.reporter = config, store, reporter
        self._ranges: dict[str, Artifact] = {}
        self._loaded: list[diffusers.DiffusionPipeline] = []
        self._fp_calls: dict[range, list[DenoiserCall]] = {}

    def for_videos(self, n_videos: int) -> Stages:
        """The same stages for another number of videos; both share one pipeline."""
        other = copy.copy(self)
        other.config = replace(self.config, n_videos=n_videos)
        return other

    @property
    def pipeline(self) -> diffusers.DiffusionPipeline:
        if not self._loaded:
            with self.reporter.note("loading the pipeline"):
                prompt = self.prompts("calibration", range(1))[0]
                self._loaded.append(load(self.config.model, self.config.device, prompt))
        return self._loaded[0]

    @property
    def fp_denoiser(self) -> nn.Module:
        return self.config.model.denoiser(self.pipeline)

    @cached_property
    def _model_inputs(self) -> dict[str, Any]:
        """What the calls of the denoiser depend on, prompts and steps aside."""
        config, model = self.config, self.config.model
        beside = {*model.beside_the_denoiser, "architecture"}  # its files are in the fingerprint
        geometry = {key: value for key, value in asdict(model).items() if key not in beside}
        # The dial looks at this prompt's sample.
        dial = self.prompts("calibration", range(1)) if model.dialled else None
        weights = model.fingerprint()
        return {**geometry, "weights": weights, "dial": dial, "device": config.device, "seed": config.seed}

    @property
    def model_digest(self) -> str:
        """Of what the FP model's videos depend on, prompts, steps, seed and device aside."""
        return fingerprint({key: value for key, value in self._model_inputs.items() if key not in ("seed", "device")})

    def prompts(self, split: str, indices: range) -> list[str]:
        return self.config.reference.prompts(split, indices)

    def check_rules(self, arm: Arm) -> None:
        """Refuse layer rules that match nothing before anything is computed.

        Raises:
            ValueError: names the pattern and the nearest layers.
        """
        if not arm.method.rules and not arm.method.only:
            return  # nothing to check, and no need to load the pipeline
        arm.method.site_bits(self.fp_denoiser, self._context(arm))

    def _context(self, arm: Arm, checkpoint: UnitStore | None = None) -> QuantizationContext:
        """What the arm's method is told beside the denoiser and its ranges."""
        model = self.config.model
        anatomy = model.anatomy(self.fp_denoiser)
        timesteps = model.timesteps(self.pipeline, self.config.num_inference_steps)
        track = self.reporter.track
        return QuantizationContext(arm.bits, anatomy, timesteps, model.temporal_features, track, checkpoint)

    def samples(self, quantized: Artifact | None) -> Staged:
        """The videos of the FP model (None) or of a quantized denoiser."""
        config, loaded = self.config, list[Any]()
        sampling = code.sampling(config.model, None if quantized is None else config.backend)
        parts = []
        for indices in self.reporter.track(batches(config.n_videos, config.model.batch_size), "sampling"):
            prompts = self.prompts("evaluation", indices)
            inputs = {
                "model": self._model_inputs,
                **execution_inputs(quantized, config.backend),
                "first": indices.start,
                "prompts": prompts,
                "num_inference_steps": config.num_inference_steps,
                "decode_chunk_size": config.model.decode_chunk_size,
            }

            def compute(indices: range = indices, prompts: list[str] = prompts) -> Result:
                if not loaded:
                    loaded.append(self.fp_denoiser if quantized is None else self._converted(quantized))
                return {"videos": self._draw(loaded[0], indices, prompts)}, {"prompts": prompts}

            parts.append(self.store.fetch_file("samples", inputs, compute, sampling))
        return Staged.join(parts)

    def _draw(self, denoiser: nn.Module, indices: range, prompts: list[str]) -> torch.Tensor:
        """The evaluation videos `indices` of a denoiser."""
        config = self.config
        original = self.fp_denoiser
        config.model.set_denoiser_(self.pipeline, denoiser)
        videos = sample_batch(
            config.model,
            self.pipeline,
            prompts,
            indices,
            seed=config.seed,
            split="evaluation",
            num_inference_steps=config.num_inference_steps,
        )
        config.model.set_denoiser_(self.pipeline, original)
        return videos

    def _calls(self, denoiser: nn.Module, indices: range, prompts: list[str]) -> list[DenoiserCall]:
        """What a denoiser is called with, and predicts, while these evaluation videos are drawn."""
        with recorded_calls(denoiser) as calls:
            self._draw(denoiser, indices, prompts)
        return calls

    def step_sqnr(self, quantized: Artifact) -> Artifact:
        """dB of the denoiser's predictions at each step against FP's, on FP's inputs and on its own path."""
        config = self.config
        indices = range(min(config.n_videos, config.model.batch_size, SQNR_VIDEOS))
        prompts = self.prompts("evaluation", indices)
        inputs = {
            "model": self._model_inputs,
            **execution_inputs(quantized, config.backend),
            "prompts": prompts,
            "num_inference_steps": config.num_inference_steps,
        }

        def compute() -> Result:
            with self.reporter.note("comparing the denoisers step by step"):
                if indices not in self._fp_calls:  # every arm is compared with the same
                    self._fp_calls[indices] = self._calls(self.fp_denoiser, indices, prompts)
                reference, denoiser = self._fp_calls[indices], self._converted(quantized)
                original = predictions(reference)
                forced = teacher_forced(denoiser, reference)
                free = predictions(self._calls(denoiser, indices, prompts))
            return {}, {
                "videos": len(indices),
                "teacher_forced": step_sqnr(forced, original).tolist(),
                "free_running": step_sqnr(free, original).tolist(),
            }

        return self.store.fetch("sqnr", inputs, compute, code.sqnr(config.model, config.backend))

    def calibration(self, plan: CalibrationPlan) -> Staged:
        """The calibration set of a plan: the FP denoiser's inputs on calibration prompts and seeds."""
        config = self.config
        plan.check(config.num_inference_steps)
        # How many samples there are is no part of one batch: a larger set goes on where a smaller one ended.
        choice = {name: value for name, value in asdict(plan).items() if name != "num_samples"}
        parts = []
        spans = batches(plan.num_samples, config.model.batch_size)
        for indices in self.reporter.track(spans, "capturing calibration inputs"):
            prompts = self.prompts("calibration", indices)
            inputs = {
                "model": self._model_inputs,
                "plan": choice,
                "first": indices.start,
                "prompts": prompts,
                "num_inference_steps": config.num_inference_steps,
            }

            def compute(indices: range = indices, prompts: list[str] = prompts) -> Result:
                captured = capture_calibration_batch(
                    config.model,
                    self.pipeline,
                    prompts,
                    indices,
                    seed=config.seed,
                    num_inference_steps=config.num_inference_steps,
                    plan=plan,
                )
                return captured, {}

            parts.append(self.store.fetch_file("calibration", inputs, compute, code.calibration(config.model)))
        return Staged.join(parts)

    def ranges(self, calibration: Staged) -> Artifact:
        """Histograms and per-channel extremes at every activation site."""
        inputs = {"calibration": calibration.key}

        def compute() -> Result:
            entries = min(16, 2 * self.config.model.batch_size)  # what the model samples together, at most
            ranges = observe(
                self.fp_denoiser, calibration.calibration_set(self.config.device), entries, progress=self.reporter.track
            )
            return ranges.to_tensors(), {}

        key = fingerprint(inputs)
        if key not in self._ranges:  # many arms share them, and they are large
            self._ranges[key] = self.store.fetch("ranges", inputs, compute, code.RANGES)
        return self._ranges[key]

    def histograms(self, ranges: Artifact) -> dict[str, dict[str, Any]]:
        """Activation histograms by site, for figures and tracking."""
        return {
            site: {"counts": observed.histogram.numpy(), "low": observed.low, "high": observed.high}
            for site, observed in Ranges.from_tensors(ranges.tensors).items()
        }

    def quantization(self, arm: Arm, calibration: Staged, ranges: Artifact) -> Artifact:
        """Integer codes, scales and grids of every layer, with the readable quantization map."""
        entries, options = code.quantization(arm.method, self.config.model), asdict(arm.method)
        del options["name"]  # changes nothing but how it is called
        inputs = {
            "method": type(arm.method).__name__,
            "options": options,
            "bits": str(arm.bits),
            "ranges": ranges.key,
            "num_inference_steps": self.config.num_inference_steps,
        }

        def compute() -> Result:
            context = self._context(arm, UnitStore(self.store.work_folder("quantization", inputs, entries)))
            captured = calibration.calibration_set(self.config.device)
            quantization = arm.method.run(self.fp_denoiser, Ranges.from_tensors(ranges.tensors), captured, context)
            costs = denoiser_costs(self.fp_denoiser, quantization, captured.take([0]))
            described = {"summary": quantization.summary, "map": quantization.map, **costs}
            return quantization.to_tensors(), {**quantization.metadata, **described}

        return self.store.fetch("quantization", inputs, compute, entries)

    def fp_cost(self) -> Artifact:
        """Size of the FP denoiser's parameters, and the operations of one call; named as in `quantization`."""
        calibration = self.calibration(FloatingPoint().calibration)
        inputs = {"calibration": calibration.key}

        def compute() -> Result:
            entry = calibration.calibration_set(self.config.device).take([0])
            return {}, denoiser_costs(self.fp_denoiser, Quantization({}, {}), entry)

        return self.store.fetch("fp_cost", inputs, compute, code.FP_COST)

    def _converted(self, quantized: Artifact) -> nn.Module:
        return executed(self.fp_denoiser, quantized, self.config.backend)
