"""From videos and features to the values of declared metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from metrics.declaration import Interval, MetricValue, SetMetric, VideoMetric
from metrics.inputs import FeatureSets, VideoBatch
from metrics.score_intervals import bootstrap_mean_interval


def measure_videos(metrics: Sequence[VideoMetric], batches: Iterable[VideoBatch]) -> dict[str, MetricValue]:
    """The mean over all videos of each metric's scores, by its key; holds one batch at a time.

    Raises:
        ValueError: a metric gives another number of scores than there are videos.
    """
    scores: dict[str, list[Tensor]] = {metric.key: [] for metric in metrics}
    for batch in batches:
        for metric in metrics:
            of_batch = metric.compute(batch).cpu()
            if of_batch.shape != batch.videos.shape[:1]:
                raise ValueError(
                    f"metric {metric.key}: needs one score for each of {len(batch.videos)} videos, "
                    f"got shape {tuple(of_batch.shape)}"
                )
            scores[metric.key].append(of_batch)
    return {metric.key: _mean(torch.cat(scores[metric.key]), metric.interval) for metric in metrics}


def _mean(per_video: Tensor, interval: Interval) -> MetricValue:
    between = None if interval is Interval.none else bootstrap_mean_interval(per_video)
    return MetricValue(per_video.double().mean().item(), between, per_video)


def measure_sets(metrics: Sequence[SetMetric], sets: FeatureSets) -> dict[str, MetricValue]:
    """The value of each metric, by its key."""
    return {metric.key: metric.compute(sets) for metric in metrics}
