"""Throughput of files → features → FVD against a plain sequential loop with the same network, and its peak memory.

    python -m experiments.benchmarks.fvd_pipeline
    python -m experiments.benchmarks.fvd_pipeline --extractor i3d --clips 16 --rounds 1

The videos are XviD .avi files of 320×240 pixels, as UCF-101's. The loop decodes one video with the same reader and runs
the network on it, then the next. `i3d` has random weights; on a CPU it takes nearly all the time of either form, and
there is nothing to gain from decoding ahead. Exit status 1: a limit is not kept.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from experiments.benchmarks.timing import interleaved_seconds, print_ratios
from metrics.decoding import Source, read_clip
from metrics.extractors.base import VideoExtractor, extract_features
from metrics.extractors.i3d import InceptionI3D
from metrics.extractors.loading import load_extractor
from metrics.files.tree import find_videos
from metrics.frechet import frechet_distance
from metrics.options import ClipRule
from metrics.videos import read_clips

MIN_SPEEDUP = 1.5
SIZES = (256, 2048)
MAX_GROWTH = 1.05
DISTINCT = 64
RULES = {"shapes_classifier": ClipRule(8, resolution=32), "i3d": ClipRule(16, resolution=224)}
BATCH = {"shapes_classifier": 32, "i3d": 2}


def write_videos(folder: Path, count: int) -> None:
    """Panning textures, 40 frames each, all different."""
    rng = np.random.default_rng(0)
    for number in range(count):
        texture = cv2.GaussianBlur(rng.integers(0, 255, (240, 440, 3), np.uint8), (0, 0), 2)
        writer = cv2.VideoWriter(str(folder / f"{number:03}.avi"), cv2.VideoWriter.fourcc(*"XVID"), 25, (320, 240))
        for t in range(40):
            writer.write(np.ascontiguousarray(texture[:, 3 * t : 3 * t + 320]))
        writer.release()


def make_extractor(name: str, folder: Path) -> VideoExtractor:
    """The embedded classifier, or I3D with random weights."""
    if name == "shapes_classifier":
        return load_extractor(name)
    torch.manual_seed(0)
    torch.save(InceptionI3D().state_dict(), folder / "i3d.pt")
    return load_extractor(name, folder / "i3d.pt")


def library_features(sources: list[Source], rule: ClipRule, extractor: VideoExtractor, batch: int) -> torch.Tensor:
    """Features by the library: decoded ahead by threads, in batches."""
    return extract_features(extractor, (clips for _, clips in read_clips(sources, rule, batch)))


def loop_features(sources: list[Source], rule: ClipRule, extractor: VideoExtractor) -> torch.Tensor:
    """Features one video at a time."""
    return torch.cat([extractor(torch.from_numpy(read_clip(source, rule))[None]) for source in sources])


def peak_bytes(folder: Path, clips: int) -> int:
    """Peak memory of a process of its own that reads so many clips and computes the distance."""
    command = [sys.executable, "-m", "experiments.benchmarks.fvd_pipeline", "--measure", str(folder)]
    done = subprocess.run([*command, "--clips", str(clips)], check=True, capture_output=True, text=True)
    return int(done.stdout)


def repeated(folder: Path, count: int) -> list[Source]:
    """`count` clips, the files of the folder over and over."""
    files = find_videos(folder).paths
    return [Source(files[i % len(files)]) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extractor", choices=RULES, default="shapes_classifier")
    parser.add_argument("--clips", type=int, default=256, help="per timing, half of them on each side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    rule, batch = RULES[options.extractor], BATCH[options.extractor]
    if options.measure:
        features = library_features(
            repeated(Path(options.measure), options.clips), rule, load_extractor("shapes_classifier"), batch
        )
        frechet_distance(*features.chunk(2))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "videos"
        folder.mkdir()
        write_videos(folder, DISTINCT)
        extractor, sources = make_extractor(options.extractor, Path(temporary)), repeated(folder, options.clips)
        ours, theirs = library_features(sources, rule, extractor, batch), loop_features(sources, rule, extractor)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        seconds = interleaved_seconds(
            {
                "sequential loop": lambda: frechet_distance(*loop_features(sources, rule, extractor).chunk(2)),
                "library": lambda: frechet_distance(*library_features(sources, rule, extractor, batch).chunk(2)),
            },
            rounds=options.rounds,
        )
        print_ratios(f"{options.clips} clips, {options.extractor}: files → features → FVD", seconds, "sequential loop")
        speedup = statistics.median(
            loop / library for loop, library in zip(seconds["sequential loop"], seconds["library"], strict=True)
        )
        small, large = (peak_bytes(folder, clips) for clips in SIZES)
    print(f"speed-up {speedup:.2f} (limit {MIN_SPEEDUP})")
    print(f"peak memory {small / 2**20:.0f} MiB at {SIZES[0]} clips, {large / 2**20:.0f} MiB at {SIZES[1]}")
    raise SystemExit(speedup < MIN_SPEEDUP or large > MAX_GROWTH * small)


if __name__ == "__main__":
    main()
