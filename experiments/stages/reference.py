"""The reference's clips as batches, and what their features depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from experiments.config.reference import Reference
from metrics.cache import FeatureKey
from metrics.errors import VideoError
from metrics.extractors.base import VideoExtractor
from metrics.videos import fit_videos, read_clips
from qvd.data.base import DrawnClips, VideoFiles
from qvd.models.sampling import batches


def reference_key(reference: Reference, extractor: VideoExtractor) -> dict[str, Any]:
    """What the features of the clips depend on; reads every chosen file once."""
    dataset, protocol = reference.dataset, reference.protocol
    if isinstance(dataset, DrawnClips):
        rule = asdict(protocol.generated_rule)
        return {"manifest": dataset.manifest(), "clips": reference.count, "rule": rule, "sha256": extractor.sha256}
    return asdict(FeatureKey.of(reference.sources, protocol.reference_rule, extractor))


def reference_clips(reference: Reference, batch_size: int, skipped: list[str]) -> Iterator[torch.Tensor]:
    """Batches of uint8 (b, T, 3, H, W); files are decoded ahead while the last batch is in use.

    Args:
        reference: whose clips.
        batch_size: clips per batch.
        skipped: where to note unusable files, one line for each, when the dataset allows to leave them out.

    Raises:
        VideoError: unusable files, one line for each.
    """
    dataset, protocol = reference.dataset, reference.protocol
    if isinstance(dataset, DrawnClips):
        for indices in batches(reference.count, batch_size):
            drawn = torch.from_numpy(np.stack([dataset.frames(index) for index in indices]))
            yield fit_videos(drawn, protocol.generated_rule)
    elif isinstance(dataset, VideoFiles):
        errors: list[VideoError] | None = [] if dataset.skip_bad else None
        rule, counts = protocol.reference_rule, reference.counts
        for _, batch in read_clips(reference.sources, rule, batch_size, skipped=errors, counts=counts):
            yield batch
        skipped += map(str, errors or [])


def check_skipped(reference: Reference, skipped: list[str]) -> None:
    """Refuse stored features that an earlier run, with `skip_bad`, was allowed to leave videos out of.

    Raises:
        VideoError: a line for each, as `reference_clips` raises it.
    """
    if skipped and isinstance(reference.dataset, VideoFiles) and not reference.dataset.skip_bad:
        raise VideoError("\n".join(dict.fromkeys(skipped)))
