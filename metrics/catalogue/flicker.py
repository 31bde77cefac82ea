"""Temporal flickering: real motion counts too, so no direction is better."""

from metrics.declaration import VideoMetric
from metrics.temporal import flicker

FLICKER = VideoMetric(key="flicker", name="Flicker", order=90, compute=lambda batch: flicker(batch.videos))
