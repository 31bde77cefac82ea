"""Metrics of folders of videos, for people who only want the numbers.

    python -m metrics.cli fvd REAL_DIR GEN_DIR --protocol styleganv_fvd2048 --json
    python -m metrics.cli clipsim GEN_DIR --prompts prompts.json --json

FVD: every cell carries its protocol, N, extractor and the extractor's SHA-256. A video that cannot be used is an error
that names it; with --skip-bad it is left out, and the result says how many were.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metrics.options import EXTRACTORS, ClipRule, Protocol
from metrics.protocols import load_protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from metrics.declaration import VideoMetric
    from metrics.decoding import Source, VideoError
    from metrics.extractors.base import VideoExtractor


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0, or 1 after one line per error on stderr."""
    options = parse(arguments)
    try:
        result = options.command(options)
    except (ValueError, FileNotFoundError) as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        width = max(map(len, result))
        print("\n".join(f"{key:<{width}}  {value}" for key, value in result.items()))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Command line to options; `command` is the function to call."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--skip-bad", action="store_true", help="leave unusable videos out, and say how many")
    shared.add_argument("--batch-size", type=int, default=8, metavar="B", help="videos per forward pass (8)")
    shared.add_argument("--workers", type=int, default=2, metavar="W", help="decoding threads (2)")
    shared.add_argument("--device", default="cpu", help="of the network (cpu)")

    parser = argparse.ArgumentParser(prog="metrics", description="Metrics of folders of videos.")
    commands = parser.add_subparsers(required=True)
    fvd = commands.add_parser("fvd", parents=[shared], help="Fréchet Video Distance of two folders")
    fvd.add_argument("real", metavar="REAL_DIR")
    fvd.add_argument("generated", metavar="GEN_DIR")
    about = "of conf/protocol, or a yaml file (styleganv_fvd2048)"
    fvd.add_argument("--protocol", default="styleganv_fvd2048", metavar="NAME", help=about)
    fvd.add_argument("--videos", type=int, metavar="N", help="instead of the protocol's number")
    fvd.add_argument("--extractor", choices=EXTRACTORS, help="instead of the protocol's")
    fvd.add_argument("--weights", metavar="FILE", help="of the extractor; downloaded once where that is possible")
    fvd.add_argument("--cache", metavar="DIR", help="keep features here, and reuse them")
    fvd.set_defaults(command=run_fvd)

    clipsim = commands.add_parser("clipsim", parents=[shared], help="CLIPSIM, CLIP-Temp or others of one folder")
    clipsim.add_argument("generated", metavar="GEN_DIR")
    clipsim.add_argument("--prompts", required=True, metavar="FILE", help="json {file name: prompt}, or one per line")
    clipsim.add_argument("--protocol", default="styleganv_fvd2048", metavar="NAME", help=about)
    clipsim.add_argument("--frames", type=int, metavar="T", help="per video, instead of the protocol's")
    clipsim.add_argument("--clip", metavar="PATH", help="instead of the protocol's")
    keys = ["clipsim", "clip_temp"]
    about = f"by their keys, of the metrics that need nothing but videos and prompts ({' '.join(keys)})"
    clipsim.add_argument("--metrics", nargs="+", default=keys, metavar="KEY", help=about)
    clipsim.add_argument("--evalcrafter-compat", action="store_true", help="feed raw 0-255 pixels")
    clipsim.set_defaults(command=run_clipsim)
    return parser.parse_args(arguments)


def run_fvd(options: argparse.Namespace) -> dict[str, Any]:
    """FVD of two folders under a protocol."""
    from metrics.decoding import Source, choose_clips, find_videos
    from metrics.fvd import fvd_report
    from metrics.kernel import kernel_distance

    protocol = load_protocol(options.protocol)
    if options.videos:
        protocol = replace(protocol, n_videos=options.videos, min_videos=min(options.videos, protocol.min_videos))
    protocol = replace(protocol, extractor=options.extractor or protocol.extractor)
    real = choose_clips(find_videos(options.real), protocol, protocol.n_videos)
    generated = [Source(path) for path in find_videos(options.generated)[: protocol.n_videos]]
    for sources, where in ((real, "the reference folder"), (generated, options.generated)):
        check_count(len(sources), where, protocol)
    weights = options.weights or protocol.extractor_weights
    from metrics.extractors.loading import load_extractor

    extractor = load_extractor(protocol.extractor, weights).to(options.device)
    skipped: list[VideoError] = []
    sides = ((generated, protocol.generated_rule), (real, protocol.reference_rule))
    generated_features, real_features = (features_of(clips, rule, extractor, options, skipped) for clips, rule in sides)
    cell: dict[str, Any] = {
        "protocol": asdict(protocol),
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
    }
    kvd = kernel_distance(generated_features, real_features)
    cell |= {"kvd": kvd.mean, "kvd_std": kvd.std}
    return {**fvd_report(generated_features, real_features), **cell, **count(skipped)}


def check_count(available: int, where: str, protocol: Protocol) -> None:
    """ValueError where there are fewer clips than the protocol compares."""
    if available < protocol.n_videos:
        raise ValueError(
            f"{protocol.name} needs {protocol.n_videos} videos, {where} has {available}; "
            f"--videos {available} compares fewer, and is then not comparable with published values"
        )


def features_of(
    sources: list[Source],
    rule: ClipRule,
    extractor: VideoExtractor,
    options: argparse.Namespace,
    skipped: list[VideoError],
) -> torch.Tensor:
    """Features (N, D) of the usable videos, from the cache where there is one and nothing was left out."""
    from metrics.cache import FeatureCache, FeatureKey
    from metrics.extractors.base import extract_features

    cache = FeatureCache(Path(options.cache)) if options.cache else None
    key = FeatureKey.of(sources, rule, extractor) if cache else None
    if cache and key and (cached := cache.get(key)) is not None:
        return cached
    features = extract_features(extractor, (clips for _, clips in read(sources, rule, options, skipped)))
    if cache and key and len(features) == len(sources):
        cache.put(key, features)
    return features


def read(
    sources: list[Source], rule: ClipRule, options: argparse.Namespace, skipped: list[VideoError]
) -> Iterator[tuple[list[Path], torch.Tensor]]:
    """Batches of clips on the device, with a progress bar when stderr is a terminal."""
    from tqdm import tqdm

    from metrics.videos import read_clips

    batches = read_clips(sources, rule, options.batch_size, options.workers, skipped if options.skip_bad else None)
    for batch, clips in tqdm(batches, total=-(-len(sources) // options.batch_size), unit="batch", disable=None):
        yield batch, clips.to(options.device)


def count(skipped: list[VideoError]) -> dict[str, Any]:
    """What a result says about videos that were left out."""
    return {"skipped": len(skipped), "skipped_files": [str(error) for error in skipped]}


def run_clipsim(options: argparse.Namespace) -> dict[str, Any]:
    """Metrics of each video of a folder with its prompt, averaged, with 95 % intervals over videos."""
    from metrics.catalogue.clip import CLIP
    from metrics.clipsim import ClipScorer
    from metrics.decoding import Source, find_videos
    from metrics.inputs import MetricContext, VideoBatch
    from metrics.measure import measure_videos

    protocol = load_protocol(options.protocol)
    rule = ClipRule(options.frames or protocol.num_frames)
    chosen = metrics_of_videos(options.metrics)
    paths = find_videos(options.generated)
    prompts = read_prompts(Path(options.prompts), paths)
    scorer = ClipScorer.from_pretrained(
        options.clip or protocol.clip, evalcrafter_compat=options.evalcrafter_compat
    ).to(options.device)
    skipped: list[VideoError] = []
    context = MetricContext(
        protocol=protocol, prompts=[*prompts.values()], device=options.device, networks={CLIP: scorer}
    )
    batches = (
        VideoBatch(videos=videos, prompts=[prompts[path] for path in batch], context=context)
        for batch, videos in read([Source(path) for path in paths], rule, options, skipped)
    )
    measured = measure_videos(chosen, batches)
    result: dict[str, Any] = {}
    for metric in chosen:
        result |= metric.flat(measured[metric.key].value, measured[metric.key].interval)
    cell = {"n_videos": len(paths) - len(skipped), "num_frames": rule.num_frames, "clip": scorer.name}
    cell |= {"clip_sha256": scorer.sha256, "evalcrafter_compat": scorer.evalcrafter_compat}
    return {**result, **cell, **count(skipped)}


def metrics_of_videos(keys: list[str]) -> list[VideoMetric]:
    """The declared metrics of these keys.

    Raises:
        ValueError: there is none, or it needs more than videos and prompts.
    """
    from metrics.declaration import Compared, VideoMetric
    from metrics.registry import metrics_of

    chosen = []
    for metric in metrics_of(keys):
        if not isinstance(metric, VideoMetric) or metric.compares_with is Compared.fp:
            raise ValueError(f"metric {metric.key}: needs more than videos and their prompts")
        chosen.append(metric)
    return chosen


def read_prompts(file: Path, paths: list[Path]) -> dict[Path, str]:
    """The prompt of every video, from json by file name or from lines in name order."""
    text = file.read_text()
    if file.suffix == ".json":
        by_name = json.loads(text)
        missing = [p.name for p in paths if p.name not in by_name]
        if missing:
            raise ValueError(f"{file}: no prompt for {len(missing)} videos, the first {missing[0]}")
        return {p: by_name[p.name] for p in paths}
    lines = text.splitlines()
    if len(lines) != len(paths):
        raise ValueError(f"{file}: {len(lines)} prompts for {len(paths)} videos")
    return dict(zip(paths, lines, strict=True))


if __name__ == "__main__":
    sys.exit(main())
