"""From samples to metrics: frozen extractors, cached features, then the pure functions of `metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from experiments.config.run_config import RunConfig
from experiments.progress import Reporter
from experiments.scores import Scores
from experiments.stages import code
from experiments.stages.reference import check_skipped, reference_clips, reference_key
from experiments.stages.staged import Staged
from metrics.declaration import Compared, MetricValue, SetMetric, VideoMetric
from metrics.extractors.base import VideoExtractor, extract_features
from metrics.extractors.loading import load_extractor
from metrics.fvd import MINIMUM_VIDEOS
from metrics.inputs import FeatureSets, MetricContext, Network, VideoBatch
from metrics.measure import measure_sets, measure_videos
from metrics.registry import declared_metrics
from metrics.videos import fit_videos
from qvd.models.loading import silence_loading
from qvd.store.artifacts import Artifact, Result, Store
from qvd.store.digest import fingerprint

EXTRACTION_BATCH = 32
# A multiple of the videos and of the frames that a metric takes at once, so that those batches, and with them the last
# digits, are the same as if all videos came together.
METRIC_BATCH = 64


class Evaluator:
    """Computes every metric of an arm under one protocol."""

    def __init__(self, config: RunConfig, store: Store, reporter: Reporter) -> None:
        self.config, self.store, self.reporter = config, store, reporter
        self._networks: dict[Network[Any], nn.Module] = {}

    @cached_property
    def extractor(self) -> VideoExtractor:
        protocol = self.config.protocol
        return load_extractor(protocol.extractor, protocol.extractor_weights).to(self.config.device)

    @cached_property
    def _reference_key(self) -> dict[str, Any]:
        """Computed once: it reads every chosen file."""
        return reference_key(self.config.reference, self.extractor)

    def reference_features(self) -> Artifact | None:
        """Features of the reference clips, with the lines about files that were left out; None: there are no clips.

        Raises:
            VideoError: unusable files, one line for each.
        """
        reference, device = self.config.reference, self.config.device
        if not reference.has_clips:
            return None
        inputs = {**self._reference_key, "device": device}

        def compute() -> Result:
            skipped: list[str] = []
            with self.reporter.note(f"reading {reference.count} reference clips{reference.left_out_words}"):
                features = self._extract(reference_clips(reference, EXTRACTION_BATCH, skipped))
            return {"features": features}, {"clips": len(features), "skipped": skipped}

        stored = self.store.fetch(
            "features", inputs, compute, code.reference_features(self.extractor, reference.dataset)
        )
        check_skipped(reference, stored.metadata["skipped"])
        return stored

    def features(self, samples: Staged) -> Artifact:
        """Features of generated videos, at the protocol's length and resolution."""
        rule = self.config.protocol.generated_rule
        inputs = {
            "samples": samples.key,
            "rule": asdict(rule),
            "extractor": self.extractor.sha256,
        }

        def compute() -> Result:
            batches = samples.videos.split(EXTRACTION_BATCH)
            return {"features": self._extract(fit_videos(batch, rule) for batch in batches)}, {}

        return self.store.fetch("features", inputs, compute, code.features(self.extractor))

    def _extract(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        return extract_features(self.extractor, (batch.to(self.config.device) for batch in batches))

    @cached_property
    def _network_identities(self) -> dict[str, list[str | None]]:
        """What stands for the weights behind each metric; to load them takes seconds that a stored result can spare."""
        return {
            metric.key: [network.identity(self.config.protocol) for network in metric.networks]
            for metric in declared_metrics()
            if isinstance(metric, VideoMetric)
        }

    def metrics(self, samples: Staged, fp_samples: Staged, prompts: list[str]) -> Artifact:
        """Every declared metric of one arm; as tensors its `Scores`.

        `fp_samples` are the FP model's videos from the same seeds and prompts.
        """
        features, fp_features, reference = self.features(samples), self.features(fp_samples), self.reference_features()
        inputs = {
            "features": [features.key, fp_features.key, reference and reference.key],
            "prompts": fingerprint(prompts),
            "paired": self.config.reference.prompts_match_clips,
            "networks": self._network_identities,
        }

        def compute() -> Result:
            is_fp = samples.key == fp_samples.key
            sets = self._feature_sets(features, fp_features, reference)
            batches = self._video_batches(samples, None if is_fp else fp_samples, prompts)
            missing = why_missing(sets)
            with self.reporter.note("computing metrics"):
                results = self._measure(is_fp, missing, sets, batches)
            scores = Scores.of(results).to_tensors()
            skipped = [] if reference is None else reference.metadata["skipped"]
            reasons = {"missing": missing} if missing else {}
            return scores, {**_document(results, sets), **reasons, "reference_skipped": skipped}

        stored = self.store.fetch("metrics", inputs, compute, code.metrics())
        return replace(stored, metadata={**stored.metadata, **self.config.reference.describe()})

    def _measure(
        self, is_fp: bool, missing: Mapping[str, str], sets: FeatureSets, batches: Iterable[VideoBatch]
    ) -> dict[str, MetricValue]:
        """The values of all metrics that the arm has, by key."""
        silence_loading()
        possible = [metric for metric in declared_metrics() if metric.key not in missing]
        defined = [metric for metric in possible if metric.is_defined(self.config.protocol, is_fp)]
        return {
            **measure_sets([metric for metric in defined if isinstance(metric, SetMetric)], sets),
            **measure_videos([metric for metric in defined if isinstance(metric, VideoMetric)], batches),
        }

    def _feature_sets(self, features: Artifact, fp_features: Artifact, reference: Artifact | None) -> FeatureSets:
        arm, fp = (artifact.tensors["features"] for artifact in (features, fp_features))
        clips = arm[:0] if reference is None else reference.tensors["features"]
        match = self.config.reference.prompts_match_clips
        return FeatureSets(features=arm, fp_features=fp, reference=clips, prompts_match=match)

    def _video_batches(self, samples: Staged, fp_samples: Staged | None, prompts: list[str]) -> Iterator[VideoBatch]:
        """The arm's videos beside FP's, and their prompts; None: they are FP's own."""
        context = MetricContext(
            protocol=self.config.protocol, prompts=prompts, device=self.config.device, networks=self._networks
        )
        first = 0
        pairs: Iterable[tuple[torch.Tensor, torch.Tensor | None]]
        if fp_samples is None:
            pairs = ((videos, None) for videos in samples.videos.split(METRIC_BATCH))
        else:
            pairs = zip(samples.videos.split(METRIC_BATCH), fp_samples.videos.split(METRIC_BATCH), strict=True)
        for videos, fp_videos in pairs:
            of_batch = prompts[first : first + len(videos)]
            yield VideoBatch(videos=videos, prompts=of_batch, context=context, fp_videos=fp_videos)
            first += len(videos)


def why_missing(sets: FeatureSets) -> dict[str, str]:
    """Metric → why such sets have no value of it."""
    reasons = {}
    for metric in declared_metrics():
        if metric.compares_with is Compared.reference and not len(sets.reference):
            reasons[metric.key] = "there are no reference clips"
        elif isinstance(metric, SetMetric) and len(sets.features) < MINIMUM_VIDEOS:
            reasons[metric.key] = f"fewer than {MINIMUM_VIDEOS} videos"
    return reasons


def _document(results: Mapping[str, MetricValue], sets: FeatureSets) -> dict[str, Any]:
    """The results as entries of metrics.json; a metric that the arm has not is null."""
    values: dict[str, Any] = {}
    for metric in declared_metrics():
        result = results.get(metric.key, MetricValue(None))
        values |= {**metric.flat(result.value, result.interval), **result.details}
    warnings = [warning for result in results.values() for warning in result.warnings]
    counts = {"n_videos": len(sets.features), "n_reference": len(sets.reference)}
    return {**values, **counts, "warning": "; ".join(warnings) or None}
