"""The commands of `metrics.cli`: from folders of videos to one result."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tqdm import tqdm

from metrics.cache import FeatureCache, FeatureKey
from metrics.catalogue.clip import CLIP
from metrics.clipsim import ClipScorer
from metrics.counts import FrameCounts
from metrics.declaration import Compared, VideoMetric
from metrics.decoding import Source, choose_clips
from metrics.devices import check_device
from metrics.errors import VideoError
from metrics.extractors.base import VideoExtractor, extract_features
from metrics.extractors.loading import load_extractor
from metrics.files.prompts import read_prompts
from metrics.files.tree import Listing, find_videos
from metrics.frechet import same_samples
from metrics.fvd import fvd_report
from metrics.inputs import MetricContext, VideoBatch
from metrics.kernel import kernel_distance
from metrics.measure import measure_videos
from metrics.options import ClipRule, Protocol
from metrics.protocols import load_protocol
from metrics.registry import metrics_of
from metrics.videos import read_clips

FRAME_COUNTS = "frame_counts.jsonl"  # in the cache


def run_fvd(options: argparse.Namespace) -> dict[str, Any]:
    """FVD of two folders under a protocol, or of each class that they have."""
    protocol = protocol_of(options)
    listings = {name: find_videos(getattr(options, name)) for name in ("real", "generated")}
    comparison = Comparison(protocol, options)
    found = {name: described(listing, Path(getattr(options, name))) for name, listing in listings.items()}
    real, generated = (listing.paths for listing in listings.values())
    if options.per_class:
        reports: dict[str, Any] = {"classes": comparison.per_class(real, generated)}
        reports["fvd_mean"] = sum(report["fvd"] for report in reports["classes"].values()) / len(reports["classes"])
    else:
        reports = comparison.report(comparison.choose(real, generated))
    return {**reports, **comparison.cell(), **found, **count(comparison.skipped)}


def protocol_of(options: argparse.Namespace) -> Protocol:
    """The named protocol, with what the command line says instead."""
    protocol = load_protocol(options.protocol)
    n_videos, n_reference = options.videos or protocol.n_videos, options.reference_videos or protocol.n_reference
    if options.videos and not options.reference_videos:
        n_reference = None
    fewest = min(protocol.min_videos, n_videos, n_reference or n_videos)
    extractor = options.extractor or protocol.extractor
    return replace(protocol, n_videos=n_videos, n_reference=n_reference, min_videos=fewest, extractor=extractor)


class Comparison:
    """FVD of lists of videos under one protocol; the network is loaded when the first clips are read.

    Attributes:
        skipped: unusable videos that were left out.
    """

    def __init__(self, protocol: Protocol, options: argparse.Namespace) -> None:
        check_device(options.device)
        self.protocol, self.options = protocol, options
        self.skipped: list[VideoError] = []
        cache = Path(options.cache) if options.cache else None
        self._cache = FeatureCache(cache) if cache else None
        self._counts = FrameCounts(cache / FRAME_COUNTS if cache else None)
        self._extractor: VideoExtractor | None = None

    @property
    def extractor(self) -> VideoExtractor:
        if self._extractor is None:
            weights = self.options.weights or self.protocol.extractor_weights
            self._extractor = load_extractor(self.protocol.extractor, weights).to(self.options.device)
        return self._extractor

    def choose(self, real: list[Path], generated: list[Path], of: str = "") -> tuple[list[Source], list[Source]]:
        """The clips of both sides, generated and real; `of` names the class in errors.

        Raises:
            ValueError: a side has fewer than the protocol compares.
        """
        protocol, n_reference = self.protocol, self.protocol.n_reference or self.protocol.n_videos
        reference = choose_clips(real, protocol, n_reference, self._counts)
        options = ("--videos" if protocol.n_reference is None else "--reference-videos", "--videos")
        check_count(len(reference), n_reference, f"the reference folder{of}", protocol, options[0])
        check_count(len(generated), protocol.n_videos, f"{self.options.generated}{of}", protocol, options[1])
        return [Source(path) for path in generated[: protocol.n_videos]], reference

    def report(self, clips: tuple[list[Source], list[Source]]) -> dict[str, Any]:
        """FVD and KVD of the chosen clips."""
        generated, real = clips
        features = self._features(generated, self.protocol.generated_rule)
        reference = self._features(real, self.protocol.reference_rule)
        kvd = kernel_distance(features, reference)
        report = {**fvd_report(features, reference), "kvd": kvd.mean, "kvd_std": kvd.std}
        if _same_files(generated, real) and not same_samples(features, reference):
            line = "both sides are the same files, but the protocol takes other frames of the reference"
            report["warning"] = "; ".join(str(said) for said in (report["warning"], line) if said)
        return report

    def per_class(self, real: list[Path], generated: list[Path]) -> dict[str, dict[str, Any]]:
        """The report of each class.

        Raises:
            ValueError: videos in no class's folder, or classes that one side lacks.
        """
        sides = [
            by_class(paths, Path(folder))
            for paths, folder in ((real, self.options.real), (generated, self.options.generated))
        ]
        names, generated_names = (list(side) for side in sides)
        if odd := [name for name in (*names, *generated_names) if name not in names or name not in generated_names]:
            raise ValueError(f"--per-class: {len(odd)} classes are in one folder alone, the first {odd[0]}")
        chosen = {name: self.choose(sides[0][name], sides[1][name], f", class {name},") for name in names}
        return {name: self.report(clips) for name, clips in chosen.items()}

    def cell(self) -> dict[str, Any]:
        """What a value must carry to mean anything."""
        extractor = self.extractor
        return {
            "protocol": asdict(self.protocol),
            "extractor": extractor.name,
            "extractor_sha256": extractor.sha256,
        }

    def _features(self, sources: list[Source], rule: ClipRule) -> torch.Tensor:
        """Features (N, D) of the usable videos, from the cache where there is one and nothing was left out."""
        key = FeatureKey.of(sources, rule, self.extractor) if self._cache else None
        if self._cache and key and (cached := self._cache.get(key)) is not None:
            return cached
        batches = read(sources, rule, self.options, self.skipped, self._counts)
        features = extract_features(self.extractor, (clips for _, clips in batches))
        if self._cache and key and len(features) == len(sources):
            self._cache.put(key, features)
        return features


def check_count(available: int, needed: int, where: str, protocol: Protocol, option: str) -> None:
    """ValueError where there are fewer clips than the protocol compares; `option` asks for fewer."""
    if available < needed:
        raise ValueError(
            f"{protocol.name} needs {needed} videos, {where} has {available}; "
            f"{option} {available} compares fewer, and is then not comparable with published values"
        )


def by_class(paths: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """The videos of each sub-folder.

    Raises:
        ValueError: a video that lies in none.
    """
    classes: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        name, *below = path.relative_to(folder).parts or ("",)
        if not below:
            raise ValueError(f"--per-class: {path} lies in no class's folder")
        classes[name].append(path)
    return classes


def _same_files(one: Sequence[Source], other: Sequence[Source]) -> bool:
    return {source.path.resolve() for source in one} == {source.path.resolve() for source in other}


def described(listing: Listing, folder: Path, prompts: Mapping[Path, str] | None = None) -> dict[str, Any]:
    """Which videos of a folder come first and last, with their prompts, and what is no video in it."""
    ends = {"first": listing.paths[0], "last": listing.paths[-1]}
    words: dict[str, Any] = {end: path.relative_to(folder).as_posix() for end, path in ends.items()}
    if prompts is not None:
        words |= {f"{end}_prompt": prompts[path] for end, path in ends.items()}
    return {**words, "left_out": listing.left_out}


def read(
    sources: list[Source],
    rule: ClipRule,
    options: argparse.Namespace,
    skipped: list[VideoError],
    counts: FrameCounts | None = None,
) -> Iterator[tuple[list[Path], torch.Tensor]]:
    """Batches of clips on the device, with a progress bar when stderr is a terminal."""
    noted = skipped if options.skip_bad else None
    batches = read_clips(sources, rule, options.batch_size, options.workers, noted, counts)
    for batch, clips in tqdm(batches, total=-(-len(sources) // options.batch_size), unit="batch", disable=None):
        yield batch, clips.to(options.device)


def count(skipped: list[VideoError]) -> dict[str, Any]:
    """What a result says about videos that were left out."""
    return {"skipped": len(skipped), "skipped_files": [str(error) for error in skipped]}


def run_clipsim(options: argparse.Namespace) -> dict[str, Any]:
    """Metrics of each video of a folder with its prompt, averaged, with 95 % intervals over videos."""
    protocol, folder = load_protocol(options.protocol), Path(options.generated)
    rule = ClipRule(options.frames or protocol.num_frames)
    chosen = metrics_of_videos(options.metrics)
    check_device(options.device)
    listing = find_videos(folder)
    prompts = read_prompts(options.prompts, listing.paths, folder)
    scorer = load_clip(options.clip or protocol.clip, options.evalcrafter_compat).to(options.device)
    skipped: list[VideoError] = []
    context = MetricContext(
        protocol=protocol, prompts=[*prompts.by_video.values()], device=options.device, networks={CLIP: scorer}
    )
    batches = (
        VideoBatch(videos=videos, prompts=[prompts.by_video[path] for path in batch], context=context)
        for batch, videos in read([Source(path) for path in listing.paths], rule, options, skipped)
    )
    measured = measure_videos(chosen, batches)
    result: dict[str, Any] = {}
    for metric in chosen:
        result |= metric.flat(measured[metric.key].value, measured[metric.key].interval)
    cell = {"n_videos": len(listing.paths) - len(skipped), "num_frames": rule.num_frames, "clip": scorer.name}
    cell |= {"clip_sha256": scorer.sha256, "evalcrafter_compat": scorer.evalcrafter_compat}
    cell |= {"prompts_cut": scorer.cut_prompts([*prompts.by_video.values()]), "max_tokens": scorer.max_tokens}
    cell |= {"unused_prompts": prompts.unused, "generated": described(listing, folder, prompts.by_video)}
    return {**result, **cell, **count(skipped)}


def load_clip(name: str, evalcrafter_compat: bool) -> ClipScorer:
    """A CLIP by hub id or folder.

    Raises:
        ValueError: it is not there, or its files are no weights.
    """
    try:
        return ClipScorer.from_pretrained(name, evalcrafter_compat=evalcrafter_compat)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"CLIP {name}: {error}; --clip takes the folder of another copy") from None


def metrics_of_videos(keys: list[str]) -> list[VideoMetric]:
    """The declared metrics of these keys.

    Raises:
        ValueError: there is none, or it needs more than videos and prompts.
    """
    chosen = []
    for metric in metrics_of(keys):
        if not isinstance(metric, VideoMetric) or metric.compares_with is Compared.fp:
            raise ValueError(f"metric {metric.key}: needs more than videos and their prompts")
        chosen.append(metric)
    return chosen
