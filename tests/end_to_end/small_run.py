"""One small run of three arms in one process: what the golden data and the wiring tests look at.

Nothing is at its default that could be confused with a default: seed, guidance, steps, each arm's calibration plan.
Batches of four leave one of two at the end.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from tests.end_to_end.names import (
    ArmRunner,
    Quantization,
    Ranges,
    Reporter,
    Stages,
    Store,
    alexnet_features,
    compose_run_config,
    run_experiment,
)

SEED, N_VIDEOS, STEPS, GUIDANCE, BATCH = 3, 10, 2, 2.0, 4
NAIVE = "{quantizer: naive, bits: w8a8, options: {calibration: {num_samples: 5, num_steps: 2}, softmax_bits: 7}}"
QVD = (
    "{quantizer: qvd, bits: w4a8, options: {calibration: {num_samples: 3, num_steps: 1}, capture_rows: 64, "
    "tau_candidates: 3, rules: [{pattern: '*.to_out.0', weight_bits: 6, activation_bits: 5}]}}"
)
WORDS = [
    f"seed={SEED}",
    "workers=1",
    f"n_videos={N_VIDEOS}",
    "protocol.min_videos=8",
    f"num_inference_steps={STEPS}",
    f"model.guidance_scale={GUIDANCE}",
    f"model.batch_size={BATCH}",
    "tracking=disabled",
    f"experiment.arms=[{{quantizer: fp, bits: fp}}, {NAIVE}, {QVD}]",
]
FP, QUANTIZED = "fp", ("naive w8a8", "qvd w4a8")


@dataclass(frozen=True)
class SmallRun:
    """A finished run and its store.

    Attributes:
        folder: of both.
    """

    folder: Path

    @classmethod
    def finish(cls, folder: Path) -> "SmallRun":
        """The run in `folder`, computed as far as it is not there."""
        run = cls(folder)
        if not run.metrics_file.exists():
            torch.manual_seed(0)  # LPIPS on random weights is a distance too
            state = {f"features.{name}": value for name, value in alexnet_features().state_dict().items()}
            torch.save(state, run._alexnet)
            run_experiment(run.config, folder / "run", "", WORDS)
        return run

    @cached_property
    def config(self):
        return compose_run_config([*WORDS, f"store={self.folder}/store", f"protocol.lpips_weights={self._alexnet}"])

    @property
    def _alexnet(self) -> Path:
        return self.folder / "alexnet.pth"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "run" / "metrics.json"

    @cached_property
    def metrics(self) -> dict[str, dict]:
        """Arm → what metrics.json says of it."""
        return json.loads(self.metrics_file.read_text())["arms"]

    @cached_property
    def stages(self):
        """Over the run's store, which must hold everything."""
        return Stages(self.config, Store(self.config.store, read_only=True), Reporter(quiet=True))

    @cached_property
    def runner(self):
        """What makes rows of the table of it."""
        return ArmRunner(self.config, self.stages.store, Reporter(quiet=True), WORDS)

    def arm(self, name):
        return next(arm for arm in self.config.arms if arm.name == name)

    def arm_on(self, name, n_videos):
        """An arm on another number of videos, and what runs it: it may add to the store."""
        return replace(self.arm(name), n_videos=n_videos), ArmRunner(
            self.config, Store(self.config.store), Reporter(quiet=True), WORDS
        )

    def calibration(self, name):
        return self.stages.calibration(self.arm(name).method.calibration)

    def ranges(self, name):
        return Ranges.from_tensors(self.stages.ranges(self.calibration(name)).tensors)

    def quantized(self, name):
        calibration = self.calibration(name)
        return self.stages.quantization(self.arm(name), calibration, self.stages.ranges(calibration))

    def quantization(self, name):
        artifact = self.quantized(name)
        return Quantization.from_tensors(artifact.tensors, artifact.metadata)

    def videos(self, name):
        """uint8 (N_VIDEOS, T, 3, H, W)."""
        return self.stages.samples(None if name == FP else self.quantized(name)).videos[:]
