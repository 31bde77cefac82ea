"""The key of every stage of a config, without a model: keys follow from the config and from inputs' keys alone."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

from tests.end_to_end.names import Artifact, ArtifactFile, Evaluator, Reporter, Stages, Store, fingerprint


class KeyStore(Store):
    """Computes nothing: hands out artifacts that are empty but for their key, and remembers these.

    Attributes:
        parts: stage → keys of what was asked for.
    """

    def __init__(self):
        super().__init__("/nowhere")
        self.parts = {}

    def _key(self, stage, inputs, code):
        key = fingerprint({"stage": stage, "inputs": inputs, "code": code})
        self.parts.setdefault(stage, []).append(key)
        return key

    def fetch(self, stage, inputs, compute, code=()):
        return Artifact(self._key(stage, inputs, code), {}, {"skipped": []})

    def fetch_file(self, stage, inputs, compute, code=()):
        return ArtifactFile(self._key(stage, inputs, code), Path(), {}, 0.0, 0)


def stage_keys(config, store=None):
    """Stage → key, of the FP model's row on the run's number of videos and of the first arm's row on its own."""
    arm, store = config.arms[0], store or KeyStore()
    fp_row, arm_row = (Row(config, n_videos, store) for n_videos in (config.n_videos, arm.n_videos))
    fp_samples = fp_row.stages.samples(None)
    calibration = arm_row.stages.calibration(arm.method.calibration)
    ranges = arm_row.stages.ranges(calibration)
    quantized = arm_row.stages.quantization(arm, calibration, ranges)
    samples = arm_row.stages.samples(quantized)
    artifacts = {
        "FP samples": fp_samples,
        "FP features": fp_row.evaluator.features(fp_samples),
        "reference features": fp_row.evaluator.reference_features(),
        "FP metrics": fp_row.metrics(fp_samples),
        "FP cost": fp_row.stages.fp_cost(),
        "calibration": calibration,
        "ranges": ranges,
        "quantization": quantized,
        "samples": samples,
        "sqnr": arm_row.stages.step_sqnr(quantized),
        "features": arm_row.evaluator.features(samples),
        "metrics": arm_row.metrics(samples),
    }
    return {stage: artifact and artifact.key for stage, artifact in artifacts.items()}


class Row:
    """What computes a row of the table on so many videos."""

    def __init__(self, config, n_videos, store):
        reporter, self.n_videos = Reporter(quiet=True), n_videos
        self.stages = Stages(config, store, reporter).for_videos(n_videos)
        self.evaluator = Evaluator(replace(config, n_videos=n_videos), store, reporter)
        self.evaluator.extractor = _extractor(config.protocol)  # the real ones need their weights

    def metrics(self, samples):
        prompts = self.stages.prompts("evaluation", range(self.n_videos))
        return self.evaluator.metrics(samples, self.stages.samples(None), prompts)


def _extractor(protocol):
    """What keys ask of an extractor."""
    weights = protocol.extractor_weights
    content = protocol.extractor.encode() + (Path(weights).read_bytes() if weights else b"")
    digest = sha256(content).hexdigest()
    return SimpleNamespace(name=protocol.extractor, sha256=digest, input_size=(32, 32), resize="none")
