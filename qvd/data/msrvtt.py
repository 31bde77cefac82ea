"""MSR-VTT (Xu et al. 2016): the 2,990 test videos, with captions from the user's copy of its json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qvd.data.base import Video, VideoFiles

TEST_IDS = range(7010, 10_000)


@dataclass(frozen=True)
class MSRVTT(VideoFiles):
    """Test videos video7010 to video9999 below the root, each with one of its twenty captions, drawn once.

    Attributes:
        annotations: json with `sentences` of `video_id` and `caption`, such as MSRVTT_data.json; calibration prompts
            are its captions of training videos, or, where it has the test part alone, the ones not drawn.
        caption_seed: of the draw; another one is another benchmark.
    """

    annotations: str = ""
    caption_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not Path(self.annotations).is_file():
            raise ValueError(f"dataset.annotations={self.annotations}: no such file")

    @cached_property
    def _captions(self) -> dict[int, list[str]]:
        """Every caption by video number, in the order of the file."""
        try:
            sentences = json.loads(Path(self.annotations).read_text())["sentences"]
            captions: dict[int, list[str]] = {}
            for sentence in sentences:
                number = int(sentence["video_id"].removeprefix("video"))
                captions.setdefault(number, []).append(sentence["caption"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"dataset.annotations={self.annotations}: not MSR-VTT's json, which lists sentences with video_id and "
                f"caption ({type(error).__name__}: {error})"
            ) from None
        return captions

    def _drawn(self, number: int) -> int:
        """Position of the caption that stands for a video: by a hash, the same with every version of every library."""
        digest = hashlib.sha256(f"{self.caption_seed} {number}".encode()).digest()
        return int.from_bytes(digest[:8]) % len(self._captions[number])

    def list_videos(self) -> list[Video]:
        files = {path.stem: path for path in Path(self.root).rglob("video*.mp4")}
        numbers = [number for number in TEST_IDS if f"video{number}" in files]
        if not numbers:
            raise ValueError(f"dataset.root={self.root}: none of video7010.mp4 to video9999.mp4 is in it")
        missing = [number for number in TEST_IDS if f"video{number}" not in files]
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
        return [Video(files[f"video{n}"], self._captions[n][self._drawn(n)]) for n in numbers]

    def calibration_captions(self) -> list[str]:
        training = [text for number, texts in self._captions.items() if number not in TEST_IDS for text in texts]
        others = (
            text
            for number, texts in self._captions.items()
            for position, text in enumerate(texts)
            if position != self._drawn(number)
        )
        return training or list(others)

    def describe(self) -> str:
        return f"msrvtt/test ({len(self.videos)} videos)"
