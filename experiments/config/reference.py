"""What a run is measured against: reference clips and prompts, chosen by the protocol from the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metrics.decoding import Source, choose_clips
from metrics.options import Prompts, Protocol
from qvd.data.base import DrawnClips, VideoDataset, VideoFiles
from qvd.data.shapes import Shapes


@dataclass(frozen=True)
class Reference:
    """Clips of a dataset under a protocol; nothing is decoded here.

    Attributes:
        dataset: procedural, or videos in files.
        protocol: which clips, and which prompts.
        n_videos: of the run; at most as many reference clips are used.
    """

    dataset: VideoDataset
    protocol: Protocol
    n_videos: int

    @cached_property
    def sources(self) -> list[Source]:
        """The chosen clips of a dataset of files; empty where clips are drawn."""
        if not isinstance(self.dataset, VideoFiles):
            return []
        return choose_clips([video.path for video in self.dataset.videos], self.protocol, self.n_videos)

    @property
    def count(self) -> int:
        """How many clips there are, before unusable files are left out."""
        return len(self.sources) if isinstance(self.dataset, VideoFiles) else self.n_videos

    @property
    def prompts_match_clips(self) -> bool:
        """Whether sample i is prompted with the caption of clip i."""
        if isinstance(self.dataset, DrawnClips):
            return self.dataset.prompts_match_clips
        return self.protocol.prompts is Prompts.captions

    def prompts(self, split: str, indices: range) -> list[str]:
        """Prompts of samples of a split, "calibration" or "evaluation"."""
        if self.protocol.prompts is Prompts.shapes:
            return [Shapes().prompt(index, split) for index in indices]
        if self.protocol.prompts is Prompts.captions and split == "evaluation" and self.sources:
            return [self._captions[self.sources[index % len(self.sources)].path] for index in indices]
        return [self.dataset.prompt(index, split) for index in indices]

    @cached_property
    def _captions(self) -> dict[Path, str]:
        assert isinstance(self.dataset, VideoFiles)
        return {video.path: video.caption for video in self.dataset.videos}
