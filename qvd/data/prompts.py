"""A user's own prompts: videos to look at, or to score elsewhere, with no reference clips beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metrics.files.captions import read_captions
from qvd.data.base import VideoDataset


@dataclass(frozen=True)
class PromptFile(VideoDataset):
    """Prompts in the order of a file; calibration samples are prompted with the same, from noise of their own.

    Attributes:
        file: .txt, .json, .jsonl, .csv or .tsv, in the forms of `metrics.files.captions`.
        videos_per_prompt: how many a run draws of each unless it says `n_videos`; sample i is of prompt i modulo their
            number, so that more of each go on where fewer ended.
    """

    file: str = ""
    videos_per_prompt: int = 1

    def __post_init__(self) -> None:
        if self.videos_per_prompt < 1:
            raise ValueError(f"dataset.videos_per_prompt={self.videos_per_prompt}: must be at least 1")
        try:
            "".join(self.prompts).encode()  # half a surrogate pair, which json may hold, is no text
        except ValueError as error:
            raise ValueError(f"dataset.file={error}") from None

    @cached_property
    def prompts(self) -> list[str]:
        """Every prompt of the file, at least one."""
        return [caption for entry in read_captions(self.file) for caption in entry.captions]

    @property
    def n_videos(self) -> int:
        """Of a run that names no number."""
        return len(self.prompts) * self.videos_per_prompt

    def prompt(self, index: int, split: str = "evaluation") -> str:
        return self.prompts[index % len(self.prompts)]

    def describe(self) -> str:
        return f"none (prompts of {Path(self.file).name}, {len(self.prompts)})"
