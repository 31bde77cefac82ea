"""The commands of `metrics.cli`: from folders of videos to one result."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from safetensors import SafetensorError

from metrics.catalogue.clip import CLIP
from metrics.clipsim import ClipScorer
from metrics.declaration import Compared, VideoMetric
from metrics.decoding import Source
from metrics.devices import check_device
from metrics.errors import VideoError
from metrics.files.prompts import read_prompts
from metrics.folders import FolderComparison, Side, read
from metrics.inputs import MetricContext, VideoBatch
from metrics.measure import measure_videos
from metrics.options import ClipRule, Protocol
from metrics.protocols import load_protocol
from metrics.registry import metrics_of


def run_fvd(options: argparse.Namespace) -> dict[str, Any]:
    """FVD of two folders under a protocol, or of each class that they have."""
    protocol = protocol_of(options)
    check_device(options.device)
    comparison = FolderComparison(protocol, options, Side.of(options.real), Side.of(options.generated))
    if options.per_class:
        classes = comparison.per_class()
        reports = {"classes": classes, "fvd_mean": sum(cell["fvd"] for cell in classes.values()) / len(classes)}
    else:
        reports = comparison.whole()
    return {**reports, **comparison.cell(), **comparison.described(), **count(comparison.skipped)}


def protocol_of(options: argparse.Namespace) -> Protocol:
    """The named protocol, with what the command line says instead."""
    protocol = load_protocol(options.protocol)
    n_videos, n_reference = options.videos or protocol.n_videos, options.reference_videos or protocol.n_reference
    if options.videos and not options.reference_videos:
        n_reference = None
    fewest = min(protocol.min_videos, n_videos, n_reference or n_videos)
    extractor = options.extractor or protocol.extractor
    return replace(protocol, n_videos=n_videos, n_reference=n_reference, min_videos=fewest, extractor=extractor)


def count(skipped: list[VideoError]) -> dict[str, Any]:
    """What a result says about videos that were left out."""
    return {"skipped": len(skipped), "skipped_files": [str(error) for error in skipped]}


def run_clipsim(options: argparse.Namespace) -> dict[str, Any]:
    """Metrics of each video of a folder with its prompt, averaged, with 95 % intervals over videos."""
    protocol = load_protocol(options.protocol)
    rule = ClipRule(options.frames or protocol.num_frames)
    chosen = metrics_of_videos(options.metrics)
    check_device(options.device)
    side = Side.of(options.generated)
    prompts = read_prompts(options.prompts, side.paths, side.folder)
    scorer = load_clip(options.clip or protocol.clip, options.evalcrafter_compat).to(options.device)
    skipped: list[VideoError] = []
    context = MetricContext(
        protocol=protocol, prompts=[*prompts.by_video.values()], device=options.device, networks={CLIP: scorer}
    )
    batches = (
        VideoBatch(videos=videos, prompts=[prompts.by_video[path] for path in batch], context=context)
        for batch, videos in read([Source(path) for path in side.paths], rule, options, skipped)
    )
    measured = measure_videos(chosen, batches)
    result: dict[str, Any] = {}
    for metric in chosen:
        result |= metric.flat(measured[metric.key].value, measured[metric.key].interval)
    cell = {"n_videos": len(side.paths) - len(skipped), "num_frames": rule.num_frames, "clip": scorer.name}
    cell |= {"clip_sha256": scorer.sha256, "evalcrafter_compat": scorer.evalcrafter_compat}
    cell |= {"prompts_cut": scorer.cut_prompts([*prompts.by_video.values()]), "max_tokens": scorer.max_tokens}
    cell |= {"unused_prompts": prompts.unused, "generated": side.described(side.paths, prompts.by_video)}
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
