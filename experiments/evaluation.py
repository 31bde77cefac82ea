"""From samples to metrics: frozen extractors, cached features, then the pure functions of `metrics`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
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

FEATURE_CODE = ("metrics/extractors", "metrics/decoding.py", "metrics/videos.py", "metrics/protocols.py")
METRIC_CODE = ("metrics", "experiments/evaluation.py")
EXTRACTION_BATCH = 32


class Evaluator:
    """Computes every metric of an arm under one protocol."""

    def __init__(self, config: RunConfig, store: Store, reporter: Reporter) -> None:
        self.config, self.store, self.reporter = config, store, reporter

    @cached_property
    def extractor(self) -> VideoExtractor:
        from metrics.extractors.loading import load_extractor

        protocol = self.config.protocol
        return load_extractor(protocol.extractor, protocol.extractor_weights).to(self.config.device)

    @cached_property
    def clip_scorer(self) -> ClipScorer:
        from metrics.clipsim import ClipScorer
        from qvd.models.base import silence_loading

        silence_loading()
        return ClipScorer.from_pretrained(self.config.protocol.clip).to(self.config.device)

    def _clip_digest(self) -> str:
        """Hash of the CLIP's files, or its hub id; loading it costs seconds that a stored result does not need."""
        from metrics.clipsim import clip_folder

        folder = Path(clip_folder(self.config.protocol.clip))
        return file_digest(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else str(folder)

    @cached_property
    def _reference_key(self) -> dict[str, Any]:
        """Computed once: it reads every chosen file."""
        return self.config.reference.key(self.extractor)

    def reference_features(self) -> Artifact:
        """Features of the reference clips, with the lines about files that were left out.

        Raises:
            VideoError: unusable files, one line for each.
        """
        reference, device = self.config.reference, self.config.device
        inputs = {**self._reference_key, "device": device, "code": source_digest(*FEATURE_CODE, "qvd/data")}

        def compute() -> Result:
            skipped: list[str] = []
            with self.reporter.note(f"reading {reference.count} reference clips"):
                features = self._extract(reference.clips(EXTRACTION_BATCH, skipped))
            return {"features": features}, {"clips": len(features), "skipped": skipped}

        stored = self.store.fetch("features", inputs, compute)
        reference.check_skipped(stored.metadata["skipped"])
        return stored

    def features(self, samples: StageResult) -> Artifact:
        """Features of generated videos, at the protocol's length and resolution."""
        from metrics.videos import fit_videos

        rule = self.config.protocol.generated_rule
        inputs = {
            "samples": samples.key,
            "rule": asdict(rule),
            "extractor": self.extractor.sha256,
            "code": source_digest(*FEATURE_CODE),
        }

        def compute() -> Result:
            batches = samples.tensors["videos"].split(EXTRACTION_BATCH)
            return {"features": self._extract(fit_videos(batch, rule) for batch in batches)}, {}

        return self.store.fetch("features", inputs, compute)

    def _extract(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        from metrics.extractors.base import extract_features

        return extract_features(self.extractor, (batch.to(self.config.device) for batch in batches))

    def metrics(self, samples: StageResult, fp_samples: StageResult, prompts: list[str]) -> Artifact:
        """Every metric of one arm; `fp_samples` are the FP model's videos from the same seeds and prompts."""
        features, fp_features, reference = self.features(samples), self.features(fp_samples), self.reference_features()
        protocol = self.config.protocol
        inputs = {
            "features": [features.key, fp_features.key, reference.key],
            "prompts": fingerprint(prompts),
            "paired": self.config.reference.prompts_match_clips,
            "clip": self._clip_digest(),
            "lpips": protocol.lpips_weights and file_digest([Path(protocol.lpips_weights)]),
            "code": source_digest(*METRIC_CODE),
        }

        def compute() -> Result:
            with self.reporter.note("computing metrics"):
                is_fp = samples.key == fp_samples.key
                values = {
                    **_distances(features, fp_features, reference, is_fp, self.config.reference.prompts_match_clips),
                    **self._text_alignment(samples.tensors["videos"], prompts),
                    **self._fidelity(samples.tensors["videos"], fp_samples.tensors["videos"], is_fp),
                    "reference_skipped": reference.metadata["skipped"],
                }
                return {}, values

        return self.store.fetch("metrics", inputs, compute)

    def _text_alignment(self, videos: torch.Tensor, prompts: list[str]) -> dict[str, Any]:
        from metrics.clipsim import prompt_similarity
        from metrics.temporal import flicker, neighbour_similarity

        scorer = self.clip_scorer
        frames = scorer.encode_frames(videos).cpu()
        scores = prompt_similarity(frames, scorer.encode_prompts(prompts).cpu())
        return _means({"clipsim": scores, "clip_temp": neighbour_similarity(frames), "flicker": flicker(videos)})

    def _fidelity(self, videos: torch.Tensor, fp_videos: torch.Tensor, is_fp: bool) -> dict[str, Any]:
        """PSNR, SSIM and, where its weights are given, LPIPS to the FP model's videos."""
        from metrics.fidelity import psnr, ssim
        from metrics.lpips import LPIPS

        weights = self.config.protocol.lpips_weights
        values: dict[str, Any] = dict.fromkeys(
            f"{name}_fp{ci}" for name in ("psnr", "ssim", "lpips") for ci in ("", "_ci")
        )
        if is_fp:  # a video equals itself
            return values
        scores = {"psnr_fp": psnr(videos, fp_videos), "ssim_fp": ssim(videos, fp_videos)}
        if weights is not None:
            device = self.config.device
            scores["lpips_fp"] = LPIPS.from_file(weights).to(device)(videos.to(device), fp_videos.to(device)).cpu()
        return {**values, **_means(scores)}


def _distances(
    features: Artifact, fp_features: Artifact, reference: Artifact, is_fp: bool, prompts_match_clips: bool
) -> dict[str, Any]:
    from metrics.frechet import frechet_distance
    from metrics.fvd import fvd_report
    from metrics.intervals import infinity_interval, paired_bootstrap_interval
    from metrics.kernel import kernel_distance

    sets = features.tensors["features"], reference.tensors["features"]
    paired = prompts_match_clips and len(sets[0]) == len(sets[1])
    values = {
        **fvd_report(*sets, paired=paired),
        "fvd_inf_ci": list(infinity_interval(*sets, paired=paired)),
        "kvd": kernel_distance(*sets).mean,
    }
    if is_fp:  # the FP model against its own samples is zero by definition, not a measurement
        return {**values, "fvd_fp": None, "fvd_fp_ci": None}
    pair = features.tensors["features"], fp_features.tensors["features"]
    return {**values, "fvd_fp": frechet_distance(*pair), "fvd_fp_ci": list(paired_bootstrap_interval(*pair))}


def _means(scores: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Mean over videos and its interval, for each metric's per-video scores (N,)."""
    from metrics.intervals import bootstrap_mean_interval

    values: dict[str, Any] = {}
    for name, per_video in scores.items():
        values[name] = per_video.double().mean().item()
        values[f"{name}_ci"] = list(bootstrap_mean_interval(per_video))
    return values
