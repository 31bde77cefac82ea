"""Every video of an arm as a file of its own, named as VBench reads it, with a manifest that says what each is."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from torch import Tensor

from experiments.options import Export
from experiments.progress import Reporter
from experiments.report.media import write_h264
from experiments.result import ArmResult, Videos

VIDEOS, FRAMES = "videos", "frames"  # folders in the run's
BATCH = 16  # videos in memory at once
QUALITY = 10  # H.264's constant rate factor: to the eye without loss
MOST_BYTES = 255  # of a file's name


@dataclass(frozen=True)
class Sample:
    """One row of a manifest.

    Attributes:
        file: its name, `<prompt>-<index>.mp4`.
        seed: the run's.
        sample: its number in the run, which with the seed gives the noise.
        index: its number among the samples of one prompt.
        arm: that drew it.
    """

    file: str
    prompt: str
    seed: int
    sample: int
    index: int
    arm: str


def export_arms(arms: Sequence[ArmResult], run_dir: Path, export: Export, reporter: Reporter) -> None:
    """Write `videos/<arm>/<prompt>-<index>.mp4` with `videos/<arm>.json` and `.csv` beside the folder, and on request
    `frames/<arm>/<prompt>-<index>/0000.png`, below the run folder."""
    for arm in arms:
        count = export.count(len(arm.prompts))
        samples = name_samples(arm.prompts[:count], arm.name, arm.conditions.seed)
        if samples:
            shown = reporter.track(range(0, count, BATCH), f"{arm.name}: writing videos")
            export_videos(batches_of(arm.videos, count, shown), samples, run_dir, export.frames)


def batches_of(videos: Videos, count: int, starts: Iterable[int]) -> Iterator[list[Tensor]]:
    """The first `count` videos, `BATCH` from each start on, read when they are asked for."""
    return ([videos[number] for number in range(start, min(start + BATCH, count))] for start in starts)


def export_videos(
    batches: Iterable[Tensor | Sequence[Tensor]], samples: Sequence[Sample], run_dir: Path, frames: bool = False
) -> None:
    """Write one arm's files; what an earlier run left in their place goes.

    Args:
        batches: uint8 (B, T, 3, H, W) each, in the order of `samples`.
        samples: of one arm, as `name_samples` has them.
        frames: write PNG too.
    """
    name = file_name(samples[0].arm, "")
    folders = {kind: run_dir / kind / name for kind in (VIDEOS, FRAMES)}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
    folders[VIDEOS].mkdir(parents=True)
    videos = (video for batch in batches for video in batch)
    for sample, video in zip(samples, videos, strict=True):
        pictures = video.permute(0, 2, 3, 1).cpu().numpy()
        write_h264(folders[VIDEOS] / sample.file, pictures, quality=QUALITY)
        if frames:
            write_frames(folders[FRAMES] / Path(sample.file).stem, pictures)
    write_manifest(samples, folders[VIDEOS])


def write_frames(folder: Path, pictures: np.ndarray) -> None:
    """`0000.png`, `0001.png`, … of uint8 (T, H, W, 3)."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        iio.imwrite(folder / f"{number:04}.png", picture)


def write_manifest(samples: Sequence[Sample], folder: Path) -> None:
    """`<folder>.json`, an object by file name, and `<folder>.csv`: beside the folder, which holds videos alone."""
    rows = [asdict(sample) for sample in samples]
    by_file = {row["file"]: {key: value for key, value in row.items() if key != "file"} for row in rows}
    text = json.dumps(by_file, indent=2, ensure_ascii=False)
    folder.with_name(f"{folder.name}.json").write_text(text + "\n", encoding="utf-8")
    with folder.with_name(f"{folder.name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(rows)


def name_samples(prompts: Sequence[str], arm: str, seed: int) -> list[Sample]:
    """What each sample's file is called; no two alike, not even where a file system takes `A` for `a`."""
    seen: Counter[str] = Counter()
    owners: dict[str, str] = {}
    samples = []
    for number, prompt in enumerate(prompts):
        index = seen[prompt]
        seen[prompt] += 1
        name = file_name(prompt, f"-{index}.mp4")
        if owners.setdefault(_folded(name), prompt) != prompt:
            name = file_name(prompt, f"-{index}.mp4", marked=True)
            owners[_folded(name)] = prompt
        samples.append(Sample(name, prompt, seed, number, index, arm))
    return samples


def file_name(text: str, ending: str, marked: bool = False) -> str:
    """`text` and `ending`; what a file system cannot hold is replaced or cut.

    Then, or where `marked`, a hash of the text tells it from others.
    """
    kept = "".join("_" if c == "/" or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    if kept.startswith("."):  # hidden
        kept = f"_{kept[1:]}"
    room = MOST_BYTES - len(ending.encode())
    if marked or kept != text or len(kept.encode()) > room:
        mark = f"~{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
        kept = kept.encode()[: room - len(mark)].decode(errors="ignore") + mark
    return kept + ending


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
