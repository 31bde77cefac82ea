"""What a run is measured against: reference clips and prompts, chosen by the protocol from the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from metrics.counts import FrameCounts
from metrics.decoding import Source, choose_clips
from metrics.files.tree import words
from metrics.options import Prompts, Protocol
from qvd.data.base import DrawnClips, VideoDataset, VideoFiles
from qvd.data.shapes import Shapes


@dataclass(frozen=True)
class Reference:
    """Clips of a dataset under a protocol; no more is decoded here than frames are counted for the choice of windows.

    Attributes:
        dataset: procedural, videos in files, or prompts alone.
        protocol: which clips, and which prompts.
        n_videos: of the run; at most as many reference clips are used, unless the protocol names a number.
        counts_file: where counted frames are kept; None keeps none.
    """

    dataset: VideoDataset
    protocol: Protocol
    n_videos: int
    counts_file: Path | None = None

    @cached_property
    def counts(self) -> FrameCounts:
        """The frames of each video, as far as they are known."""
        return FrameCounts(self.counts_file)

    @property
    def _wanted(self) -> int:
        return self.protocol.n_reference or self.n_videos

    @cached_property
    def sources(self) -> list[Source]:
        """The chosen clips of a dataset of files; empty where clips are drawn."""
        if not isinstance(self.dataset, VideoFiles):
            return []
        return choose_clips(self.dataset.listing.paths, self.protocol, self._wanted, self.counts)

    @property
    def has_clips(self) -> bool:
        """Whether there are real clips at all."""
        return isinstance(self.dataset, DrawnClips | VideoFiles)

    @property
    def count(self) -> int:
        """How many clips there are, before unusable files are left out."""
        if not self.has_clips:
            return 0
        return len(self.sources) if isinstance(self.dataset, VideoFiles) else self._wanted

    @property
    def prompts_match_clips(self) -> bool:
        """Whether sample i is prompted with the caption of clip i."""
        if isinstance(self.dataset, DrawnClips):
            return self.dataset.prompts_match_clips
        return self.has_clips and self.protocol.prompts is Prompts.captions

    def prompts(self, split: str, indices: range) -> list[str]:
        """Prompts of samples of a split, "calibration" or "evaluation"; a user's own whatever the protocol."""
        if self.has_clips and self.protocol.prompts is Prompts.shapes:
            return [Shapes().prompt(index, split) for index in indices]
        if self.protocol.prompts is Prompts.captions and split == "evaluation" and self.sources:
            return [self._captions[self.sources[index % len(self.sources)].path] for index in indices]
        return [self.dataset.prompt(index, split) for index in indices]

    def describe(self) -> dict[str, Any]:
        """How the videos lie in order and what is not among them, as entries of metrics.json; none for drawn clips."""
        if not isinstance(self.dataset, VideoFiles):
            return {}
        ends = {"first": self.sources[0].path, "last": self.sources[-1].path}
        root = Path(self.dataset.root)
        return {
            "reference_order": {
                end: {"video": path.relative_to(root).as_posix(), "caption": self._captions[path]}
                for end, path in ends.items()
            },
            "reference_left_out": {why: count for why, count in self.dataset.listing.left_out.items() if count},
        }

    @property
    def left_out_words(self) -> str:
        """What the dataset's folder holds beside its videos, behind a comma; empty for nothing."""
        if not isinstance(self.dataset, VideoFiles) or not words(self.dataset.listing.left_out):
            return ""
        return f", leaving out {words(self.dataset.listing.left_out)}"

    @cached_property
    def _captions(self) -> dict[Path, str]:
        assert isinstance(self.dataset, VideoFiles)
        return {video.path: video.caption for video in self.dataset.videos}
