"""One small run of three arms, from the command line: what golden data, wiring and integration tests look at.

Nothing is at its default that could be confused with a default: seed, guidance, steps, each arm's calibration plan.
Batches of four leave one of two at the end.
"""

import json
import shutil
import subprocess
import sys
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
)

ROOT = Path(__file__).parents[2]
SEED, N_VIDEOS, STEPS, GUIDANCE, BATCH = 3, 10, 2, 2.0, 4
NAIVE = "{quantizer: naive, bits: w8a8, options: {calibration: {num_samples: 5, num_steps: 2}, softmax_bits: 7}}"
QVD = (
    "{quantizer: qvd, bits: w4a8, options: {calibration: {num_samples: 3, num_steps: 1}, min_samples: 2, "
    "capture_rows: 64, tau_candidates: 3, rules: [{pattern: '*.to_out.0', weight_bits: 6, activation_bits: 5}]}}"
)
WORDS = [
    f"seed={SEED}",
    "workers=2",
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
        if not run.shown_file.exists():
            torch.manual_seed(0)  # LPIPS on random weights is a distance too
            state = {f"features.{name}": value for name, value in alexnet_features().state_dict().items()}
            torch.save(state, run._alexnet)
            run.again()
        return run

    def again(self, *words: str) -> subprocess.CompletedProcess:
        """The command once more, with other words at its end; it must end well."""
        done = subprocess.run([*self.command, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.shown_file.write_text(done.stdout)
        return done

    def copy(self, folder: Path) -> "SmallRun":
        """The same elsewhere."""
        shutil.copytree(self.folder, folder)
        return SmallRun(folder)

    def anew(self, folder: Path) -> "SmallRun":
        """The same, of which nothing is computed yet."""
        folder.mkdir()
        shutil.copy(self._alexnet, folder)
        return SmallRun(folder)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "run.py", f"hydra.run.dir={self.folder}/run", *self._words]

    @property
    def _words(self) -> list[str]:
        return [*WORDS, f"store={self.folder}/store", f"protocol.lpips_weights={self._alexnet}"]

    @cached_property
    def config(self):
        return compose_run_config(self._words)

    @property
    def _alexnet(self) -> Path:
        return self.folder / "alexnet.pth"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "run" / "metrics.json"

    @property
    def shown_file(self) -> Path:
        """What the command printed."""
        return self.folder / "shown.txt"

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
