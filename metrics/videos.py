"""Batches of clips, decoded ahead by threads; memory does not grow with the number of videos."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.counts import FrameCounts
from metrics.decoding import Source, fit, read_clip
from metrics.errors import VideoError
from metrics.options import ClipRule
from metrics.readers import OpenReaders

DECODING_THREADS = min(8, os.cpu_count() or 1)


def read_clips(
    sources: Sequence[Source],
    rule: ClipRule,
    batch_size: int = 8,
    workers: int = DECODING_THREADS,
    skipped: list[VideoError] | None = None,
    counts: FrameCounts | None = None,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Batches of clips in order.

    Args:
        sources: the clips.
        rule: which frames.
        batch_size: clips per batch.
        workers: decoding threads; 0 decodes here.
        skipped: where to note unusable videos, unless all are; None makes them an error.
        counts: the frames of each video, as far as they are known, for random starts.

    Yields:
        (paths, uint8 (b, T, 3, H, W)).

    Raises:
        VideoError: unusable videos, one line for each.
        ValueError: frames of different sizes, when the rule has no resolution.
    """
    errors: list[VideoError] = []
    clips = _decode_ahead(sources, rule, counts or FrameCounts(), workers, ahead=2 * batch_size)
    while batch := list(islice(clips, batch_size)):
        errors += [clip for _, clip in batch if isinstance(clip, VideoError)]
        good = [(path, clip) for path, clip in batch if not isinstance(clip, VideoError)]
        # After an error only the remaining ones are looked for, to name them all at once.
        if good and (skipped is not None or not errors):
            odd = next((path for path, clip in good if clip.shape != good[0][1].shape), None)
            if odd:
                raise ValueError(f"{odd}: frames of another size than {good[0][0]}; use a resolution or batches of one")
            yield [path for path, _ in good], torch.from_numpy(np.stack([clip for _, clip in good]))
    if (skipped is None and errors) or len(errors) == len(sources):
        raise VideoError("\n".join(dict.fromkeys(map(str, errors))))
    if skipped is not None:
        skipped += errors


def _decode_ahead(
    sources: Sequence[Source], rule: ClipRule, counts: FrameCounts, workers: int, ahead: int
) -> Iterator[tuple[Path, np.ndarray | VideoError]]:
    """Every path with its clip or error, in order, at most `ahead` videos in advance.

    Threads, because OpenCV decodes outside the interpreter lock, and because a forked process hangs when it frees a
    capture that it inherited: FFmpeg then waits for decoding threads that were not forked.
    """
    readers = OpenReaders(source.path for source in sources)

    def decode(index: int) -> tuple[Path, np.ndarray | VideoError]:
        path = sources[index].path
        try:
            return path, read_clip(sources[index], rule, index, counts, readers)
        except VideoError as error:
            return path, error

    if workers == 0:
        try:
            yield from map(decode, range(len(sources)))
        finally:
            readers.close()
        return
    with ThreadPoolExecutor(workers) as pool:
        remaining = iter(range(len(sources)))
        pending = deque(pool.submit(decode, index) for index in islice(remaining, ahead))
        try:
            while pending:
                clip = pending.popleft().result()
                pending.extend(pool.submit(decode, index) for index in islice(remaining, 1))
                yield clip
        finally:
            pool.shutdown(cancel_futures=True)
            readers.close()


def fit_videos(videos: Tensor, rule: ClipRule) -> Tensor:
    """Generated videos as a rule wants them: the first frames, cropped and resized as files are.

    Args:
        videos: uint8 (B, T, 3, H, W), at least `rule.num_frames` frames.
        rule: of stride 1, from the first frame.

    Returns:
        uint8 (B, rule.num_frames, 3, resolution, resolution).

    Raises:
        ValueError: too few frames.
    """
    if videos.shape[1] < rule.num_frames:
        raise ValueError(f"videos of {videos.shape[1]} frames, the protocol compares {rule.num_frames}")
    videos = videos[:, : rule.num_frames]
    if rule.resolution in (None, videos.shape[-1]) and videos.shape[-2] == videos.shape[-1]:
        return videos
    frames = videos.flatten(0, 1).movedim(1, -1).cpu().numpy()
    fitted = np.stack([fit(frame, rule.resolution, rule.resize) for frame in frames])
    return torch.from_numpy(fitted).movedim(-1, 1).unflatten(0, videos.shape[:2])
