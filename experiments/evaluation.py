"""From samples to metrics: frozen extractors, cached features, then the pure functions of `metrics`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.progress import Reporter
from experiments.stages import StageResult
from qvd.store import Artifact, Result, Store, file_digest, fingerprint, source_digest

if TYPE_CHECKING:
    import torch

    from metrics.clipsim import ClipScorer
    from metrics.extractors.base import VideoExtractor

SHAPES_CLIP = Path(__file__).parent.parent / "metrics" / "extractors" / "weights" / "shapes_clip"
FEATURE_CODE = ("metrics/extractors",)
METRIC_CODE = ("metrics", "experiments/evaluation.py")
EXTRACTION_BATCH = 32


class Evaluator:
    """Computes every metric of an arm under one protocol."""

    def __init__(self, config: RunConfig, store: Store, reporter: Reporter) -> None:
        self.config, self.store, self.reporter = config, store, reporter

    @cached_property
    def extractor(self) -> VideoExtractor:
        from metrics.cli import load_extractor

        protocol = self.config.protocol
        return load_extractor(protocol.extractor, protocol.extractor_weights).to(self.config.device)

    @cached_property
    def clip_scorer(self) -> ClipScorer:
        from metrics.clipsim import ClipScorer
        from qvd.models.base import silence_loading

        silence_loading()
        return ClipScorer.from_pretrained(self._clip_path).to(self.config.device)

    @property
    def _clip_path(self) -> str:
        name = self.config.protocol.clip
        return str(SHAPES_CLIP) if name == "shapes_clip" else name

    def _clip_digest(self) -> str:
        """Hash of the CLIP's files, or its hub id; loading it costs seconds that a stored result does not need."""
        folder = Path(self._clip_path)
        return file_digest(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else str(folder)

    def reference_features(self) -> Artifact:
        """Features of the reference clips: all there are, up to the number of generated videos."""
        import numpy as np
        import torch

        dataset = self.config.dataset
        available = dataset.available_clips()
        count = self.config.n_videos if available is None else min(available, self.config.n_videos)
        inputs = {
            "manifest": dataset.manifest(),
            "clips": count,
            "extractor": self.extractor.sha256,
            "code": source_digest(*FEATURE_CODE, "qvd/data"),
        }

        def compute() -> Result:
            clips = [
                dataset.clip(index).frames for index in self.reporter.track(range(count), "reading reference clips")
            ]
            return {"features": self._extract(torch.from_numpy(np.stack(clips)))}, {"clips": count}

        return self.store.fetch("features", inputs, compute)

    def features(self, samples: StageResult) -> Artifact:
        """Features of generated videos."""
        inputs = {"samples": samples.key, "extractor": self.extractor.sha256, "code": source_digest(*FEATURE_CODE)}
        return self.store.fetch(
            "features", inputs, lambda: ({"features": self._extract(samples.tensors["videos"])}, {})
        )

    def _extract(self, videos: torch.Tensor) -> torch.Tensor:
        from metrics.extractors.base import extract_features

        return extract_features(self.extractor, videos.to(self.config.device).split(EXTRACTION_BATCH))

    def metrics(self, samples: StageResult, fp_samples: StageResult, prompts: list[str]) -> Artifact:
        """Every metric of one arm; `fp_samples` are the FP model's videos from the same seeds and prompts."""
        features, fp_features, reference = self.features(samples), self.features(fp_samples), self.reference_features()
        inputs = {
            "features": [features.key, fp_features.key, reference.key],
            "prompts": fingerprint(prompts),
            "clip": self._clip_digest(),
            "code": source_digest(*METRIC_CODE),
        }

        def compute() -> Result:
            with self.reporter.note("computing metrics"):
                is_fp = samples.key == fp_samples.key
                values = {
                    **_distances(features, fp_features, reference, is_fp, self.config.dataset.prompts_match_clips),
                    **self._text_alignment(samples.tensors["videos"], prompts),
                    **_fidelity(samples.tensors["videos"], fp_samples.tensors["videos"], is_fp),
                }
                return {}, values

        return self.store.fetch("metrics", inputs, compute)

    def _text_alignment(self, videos: torch.Tensor, prompts: list[str]) -> dict[str, Any]:
        from metrics.clipsim import clip_scores
        from metrics.temporal import flicker, neighbour_similarity

        scores = clip_scores(self.clip_scorer, videos, prompts)
        similarity = neighbour_similarity(self.clip_scorer.encode_frames(videos))
        return _means({"clipsim": scores, "clip_temp": similarity, "flicker": flicker(videos)})


def _distances(
    features: Artifact, fp_features: Artifact, reference: Artifact, is_fp: bool, prompts_match_clips: bool
) -> dict[str, Any]:
    from metrics.frechet import frechet_distance
    from metrics.fvd import fvd_report
    from metrics.intervals import infinity_interval, paired_bootstrap_interval

    sets = features.tensors["features"], reference.tensors["features"]
    paired = prompts_match_clips and len(sets[0]) == len(sets[1])
    values = {**fvd_report(*sets, paired=paired), "fvd_inf_ci": list(infinity_interval(*sets, paired=paired))}
    if is_fp:  # the FP model against its own samples is zero by definition, not a measurement
        return {**values, "fvd_fp": None, "fvd_fp_ci": None}
    pair = features.tensors["features"], fp_features.tensors["features"]
    return {**values, "fvd_fp": frechet_distance(*pair), "fvd_fp_ci": list(paired_bootstrap_interval(*pair))}


def _fidelity(videos: torch.Tensor, fp_videos: torch.Tensor, is_fp: bool) -> dict[str, Any]:
    from metrics.fidelity import psnr, ssim

    if is_fp:
        return {"psnr_fp": None, "psnr_fp_ci": None, "ssim_fp": None, "ssim_fp_ci": None}
    return _means({"psnr_fp": psnr(videos, fp_videos), "ssim_fp": ssim(videos, fp_videos)})


def _means(scores: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Mean over videos and its interval, for each metric's per-video scores (N,)."""
    from metrics.intervals import bootstrap_mean_interval

    values: dict[str, Any] = {}
    for name, per_video in scores.items():
        values[name] = per_video.double().mean().item()
        values[f"{name}_ci"] = list(bootstrap_mean_interval(per_video))
    return values
