"""Two folders of videos, or their classes, compared under a protocol."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from metrics.cache import FeatureCache, FeatureKey
from metrics.counts import FrameCounts
from metrics.decoding import Source, choose_clips
from metrics.errors import VideoError
from metrics.extractors.base import VideoExtractor, extract_features
from metrics.extractors.loading import load_extractor
from metrics.files.order import natural_key
from metrics.files.tree import find_videos, words
from metrics.frechet import same_samples
from metrics.fvd import fvd_report
from metrics.kernel import kernel_distance
from metrics.options import ClipRule, Protocol
from metrics.videos import read_clips

FRAME_COUNTS = "frame_counts.jsonl"  # in the cache


@dataclass(frozen=True)
class Side:
    """The videos of a folder, or of one of its classes.

    Attributes:
        folder: as the command line names it.
        paths: in natural order.
        left_out: how many names in the folder are no videos, by the reason.
        name: of the class; empty for all.
    """

    folder: Path
    paths: list[Path]
    left_out: Mapping[str, int]
    name: str = ""

    @classmethod
    def of(cls, folder: str) -> Side:
        found = find_videos(folder)
        return cls(Path(folder), found.paths, found.left_out)

    @property
    def classes(self) -> dict[str, Side]:
        """The videos of each sub-folder.

        Raises:
            ValueError: a video that lies in none.
        """
        classes: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            name, *below = path.relative_to(self.folder).parts or ("",)
            if not below:
                raise ValueError(f"--per-class: {path} lies in no class's folder")
            classes[name].append(path)
        return {name: replace(self, paths=paths, name=name) for name, paths in classes.items()}

    def check(self, available: int, needed: int, protocol: Protocol, option: str) -> None:
        """ValueError where there are fewer clips than the protocol compares; `option` asks for fewer."""
        if available < needed:
            of_class = f", class {self.name}," if self.name else ""
            without = f" (left out: {words(self.left_out)})" if words(self.left_out) else ""
            raise ValueError(
                f"{protocol.name} needs {needed} videos, {self.folder}{of_class} has {available}{without}; "
                f"{option} {available} compares fewer, and is then not comparable with published values"
            )

    def described(self, used: Sequence[Path], prompts: Mapping[Path, str] | None = None) -> dict[str, Any]:
        """Which of the used videos come first and last, with their prompts, and what is no video."""
        ends = {"first": used[0], "last": used[-1]}
        result: dict[str, Any] = {end: path.relative_to(self.folder).as_posix() for end, path in ends.items()}
        if prompts is not None:
            result |= {f"{end}_prompt": prompts[path] for end, path in ends.items()}
        return {**result, "left_out": self.left_out}


class FolderComparison:
    """FVD of two sides under one protocol; the network is loaded when the first clips are read.

    Attributes:
        skipped: unusable videos that were left out.
    """

    def __init__(self, protocol: Protocol, options: argparse.Namespace, real: Side, generated: Side) -> None:
        self.protocol, self.options, self.real, self.generated = protocol, options, real, generated
        self.skipped: list[VideoError] = []
        self._used: dict[str, list[Path]] = {"real": [], "generated": []}
        cache = Path(options.cache) if options.cache else None
        self._cache = FeatureCache(cache) if cache else None
        self._counts = FrameCounts(cache / FRAME_COUNTS if cache else None)

    @cached_property
    def extractor(self) -> VideoExtractor:
        weights = self.options.weights or self.protocol.extractor_weights
        return load_extractor(self.protocol.extractor, weights).to(self.options.device)

    def whole(self) -> dict[str, Any]:
        """FVD and KVD of all videos that the protocol compares."""
        return self._report(*self._choose(self.real, self.generated))

    def per_class(self) -> dict[str, dict[str, Any]]:
        """FVD and KVD of each class.

        Raises:
            ValueError: videos in no class's folder, classes that one side lacks, or with too few videos.
        """
        real, generated = self.real.classes, self.generated.classes
        if odd := [*(real.keys() - generated.keys()), *(generated.keys() - real.keys())]:
            first = min(odd, key=natural_key)
            raise ValueError(f"--per-class: {len(odd)} classes are in one folder alone, the first {first}")
        chosen = {name: self._choose(of_real, generated[name]) for name, of_real in real.items()}
        return {name: self._report(*clips) for name, clips in chosen.items()}

    def described(self) -> dict[str, Any]:
        """What was taken from each folder."""
        sides = {"real": self.real, "generated": self.generated}
        return {name: side.described(self._used[name]) for name, side in sides.items()}

    def _choose(self, real: Side, generated: Side) -> tuple[list[Source], list[Source]]:
        """The clips, generated and real."""
        protocol, n_reference = self.protocol, self.protocol.n_reference or self.protocol.n_videos
        reference = choose_clips(real.paths, protocol, n_reference, self._counts)
        option = "--videos" if protocol.n_reference is None else "--reference-videos"
        real.check(len(reference), n_reference, protocol, option)
        generated.check(len(generated.paths), protocol.n_videos, protocol, "--videos")
        clips = [Source(path) for path in generated.paths[: protocol.n_videos]]
        for name, sources in (("generated", clips), ("real", reference)):
            self._used[name] += [source.path for source in sources]
        return clips, reference

    def _report(self, generated: list[Source], real: list[Source]) -> dict[str, Any]:
        features = self._features(generated, self.protocol.generated_rule)
        reference = self._features(real, self.protocol.reference_rule)
        kvd = kernel_distance(features, reference)
        report: dict[str, Any] = {**fvd_report(features, reference), "kvd": kvd.value, "kvd_se": kvd.standard_error}
        if _same_files(generated, real) and not same_samples(features, reference):
            line = "both sides are the same files, but the protocol takes other frames of the reference"
            report["warning"] = "; ".join(filter(None, (report["warning"], line)))
        return report

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


def _same_files(one: Sequence[Source], other: Sequence[Source]) -> bool:
    return {source.path.resolve() for source in one} == {source.path.resolve() for source in other}
