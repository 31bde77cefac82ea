"""MSR-VTT (Xu et al. 2016): the 2,990 test videos, with captions from the user's copy of its json."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metrics.files.captions import read_captions
from metrics.files.tree import Listing, find_video_files
from qvd.data.base import VideoFiles

TEST_IDS = range(7010, 10_000)
_NAME = re.compile(r"(?:video)?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class MSRVTT(VideoFiles):
    """Test videos video7010 to video9999 below the root, each with one of its captions, drawn once.

    Attributes:
        annotations: `sentences` of `video_id` and `caption`, such as MSRVTT_data.json, or any other file of captions
            (see `metrics.files.captions`) that calls the videos by name or number; calibration prompts are its captions
            of training videos, or, where it has the test part alone, the ones not drawn.
        caption_seed: of the draw; another one is another benchmark.
    """

    annotations: str = ""
    caption_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not os.path.isfile(self.annotations):
            raise ValueError(f"dataset.annotations={self.annotations}: no such file")

    @cached_property
    def _captions(self) -> dict[int, list[str]]:
        """Every caption by video number, in the order of the file."""
        captions: dict[int, list[str]] = defaultdict(list)
        try:
            entries = read_captions(self.annotations)
        except ValueError as error:
            raise ValueError(f"dataset.annotations={error}") from None
        for entry in entries:
            number = _number(entry.video or "")
            if number is None:
                raise ValueError(
                    f"dataset.annotations={self.annotations}: not MSR-VTT's, whose videos are video0 to video9999: "
                    f"{entry.video or 'a caption without its video'}"
                )
            captions[number] += entry.captions
        return dict(captions)

    def _drawn(self, number: int) -> int:
        """Position of the caption that stands for a video: by a hash, the same with every version of every library."""
        digest = hashlib.sha256(f"{self.caption_seed} {number}".encode()).digest()
        return int.from_bytes(digest[:8]) % len(self._captions[number])

    @cached_property
    def _files(self) -> dict[int, Path]:
        """The files of test videos, by number."""
        files: dict[int, Path] = {}
        for path in self._found.paths:
            number = _number(path.stem)
            if number is None or number not in TEST_IDS:
                continue
            other = files.setdefault(number, path)
            if not _is_same(other, path):
                raise ValueError(f"dataset.root={self.root}: two files of video{number}, {other} and {path}")
        return files

    @cached_property
    def _found(self) -> Listing:
        return find_video_files(self.root)

    def find_videos(self) -> Listing:
        numbers = [number for number in TEST_IDS if number in self._files]
        if not numbers:
            raise ValueError(f"dataset.root={self.root}: none of video7010.mp4 to video9999.mp4 is in it")
        missing = [number for number in TEST_IDS if number not in self._files]
        if missing and not self.skip_bad:
            raise ValueError(
                f"dataset.root={self.root}: {len(missing)} of the {len(TEST_IDS)} test videos are missing, the first "
                f"video{missing[0]}.mp4; dataset.skip_bad=true goes on without them"
            )
        unknown = [number for number in numbers if number not in self._captions]
        if unknown:
            raise ValueError(
                f"dataset.annotations={self.annotations}: no caption of {len(unknown)} test videos, the first "
                f"video{unknown[0]}; use the json of the test part or of all"
            )
        others = len(self._found.paths) - len(numbers)
        return Listing([self._files[n] for n in numbers], {**self._found.left_out, "of another part": others})

    def caption_of(self, path: Path) -> str:
        number = _number(path.stem)
        assert number is not None, "only files with a number are listed"
        return self._captions[number][self._drawn(number)]

    def calibration_captions(self) -> list[str]:
        training = [text for number, texts in self._captions.items() if number not in TEST_IDS for text in texts]
        others = [
            text
            for number, texts in self._captions.items()
            for position, text in enumerate(texts)
            if position != self._drawn(number)
        ]
        if not training and not others:
            warnings.warn(
                f"dataset.annotations={self.annotations}: one caption for each test video and no training videos: "
                "calibration is prompted with the captions of the evaluation",
                stacklevel=2,
            )
        return training or others or self.classes

    def describe(self) -> str:
        return f"msrvtt/test ({len(self.videos)} videos)"


def _number(name: str) -> int | None:
    """Of a video, by what a file or an entry calls it: video7010, video7010.mp4, a/b/video7010.mp4 or 7010."""
    found = _NAME.fullmatch(Path(name).stem)
    return int(found[1]) if found else None


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; what leads nowhere is only the same as itself."""
    return one == other or (one.exists() and other.exists() and os.path.samefile(one, other))
