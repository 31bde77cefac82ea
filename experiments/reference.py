"""What a run is measured against: reference clips and prompts, chosen by the protocol from the dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metrics.protocols import Prompts, Protocol
from qvd.data.base import VideoDataset, VideoFiles
from qvd.data.shapes import Shapes

if TYPE_CHECKING:
    import torch

    from metrics.decoding import Source, VideoError
    from metrics.extractors.base import VideoExtractor


@dataclass(frozen=True)
class Reference:
    """Clips of a dataset under a protocol; nothing is decoded before `clips` is iterated.

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
        from metrics.decoding import choose_clips

        return choose_clips([video.path for video in self.dataset.videos], self.protocol, self.n_videos)

    @property
    def count(self) -> int:
        """How many clips there are, before unusable files are left out."""
        return len(self.sources) if isinstance(self.dataset, VideoFiles) else self.n_videos

    @property
    def prompts_match_clips(self) -> bool:
        """Whether sample i is prompted with the caption of clip i."""
        if isinstance(self.dataset, Shapes):
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

    def key(self, extractor: VideoExtractor) -> dict[str, Any]:
        """What the features of the clips depend on; reads every chosen file once."""
        if isinstance(self.dataset, Shapes):
            rule = asdict(self.protocol.generated_rule)
            return {"manifest": self.dataset.manifest(), "clips": self.count, "rule": rule, "sha256": extractor.sha256}
        from metrics.cache import FeatureKey

        return asdict(FeatureKey.of(self.sources, self.protocol.reference_rule, extractor))

    def clips(self, batch_size: int, skipped: list[str]) -> Iterator[torch.Tensor]:
        """Batches of uint8 (b, T, 3, H, W); files are decoded ahead while the last batch is in use.

        Args:
            batch_size: clips per batch.
            skipped: where to note unusable files, one line for each, when the dataset allows to leave them out.

        Raises:
            VideoError: unusable files, one line for each.
        """
        from metrics.videos import fit_videos, read_clips

        if not isinstance(self.dataset, VideoFiles):
            yield from (fit_videos(batch, self.protocol.generated_rule) for batch in self._drawn(batch_size))
            return
        errors: list[VideoError] | None = [] if self.dataset.skip_bad else None
        for _, batch in read_clips(self.sources, self.protocol.reference_rule, batch_size, skipped=errors):
            yield batch
        skipped += map(str, errors or [])

    def check_skipped(self, skipped: list[str]) -> None:
        """Refuse stored features that an earlier run, with `skip_bad`, was allowed to leave videos out of.

        Raises:
            VideoError: a line for each, as `clips` raises it.
        """
        if skipped and isinstance(self.dataset, VideoFiles) and not self.dataset.skip_bad:
            from metrics.decoding import VideoError

            raise VideoError("\n".join(dict.fromkeys(skipped)))

    def _drawn(self, batch_size: int) -> Iterator[torch.Tensor]:
        import numpy as np
        import torch

        assert isinstance(self.dataset, Shapes)
        for start in range(0, self.count, batch_size):
            clips = [self.dataset.clip(index).frames for index in range(start, min(start + batch_size, self.count))]
            yield torch.from_numpy(np.stack(clips))
