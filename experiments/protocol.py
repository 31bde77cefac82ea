"""A named evaluation protocol: how many videos, which frozen networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metrics.cli import EXTRACTORS


@dataclass(frozen=True)
class Protocol:
    """What stands behind every FVD and CLIPSIM cell.

    Attributes:
        name: shown beside every number.
        n_videos: generated videos unless the run says otherwise; at most as many reference clips are used.
        min_videos: fewer are refused.
        extractor: network of the FVD features, one of `metrics.cli.EXTRACTORS`.
        extractor_weights: its file; None is the embedded one or a download that is verified by checksum.
        clip: CLIPSIM's model: `shapes_clip` (embedded), or a hub id or folder of a transformers CLIPModel.
    """

    name: str
    n_videos: int
    min_videos: int
    extractor: str = "shapes_classifier"
    extractor_weights: str | None = None
    clip: str = "shapes_clip"

    def __post_init__(self) -> None:
        if self.min_videos < 8:
            raise ValueError(f"protocol.min_videos={self.min_videos}: must be at least 8, or FVD∞ has nothing to fit")
        if self.n_videos < self.min_videos:
            raise ValueError(f"protocol.n_videos={self.n_videos}: must be at least min_videos={self.min_videos}")
        if self.extractor not in EXTRACTORS:
            raise ValueError(f"protocol.extractor={self.extractor}: allowed are {', '.join(EXTRACTORS)}")
        if self.extractor_weights is not None and not Path(self.extractor_weights).is_file():
            raise ValueError(f"protocol.extractor_weights={self.extractor_weights}: no such file")
