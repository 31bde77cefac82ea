"""Which clips are compared: without its protocol an FVD value means nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ClipRule:
    """Which frames of a video become its clip, and at what size.

    Attributes:
        num_frames: frames per clip (T).
        stride: distance of the clip's frames in the video.
        resolution: side of the square clip: centre crop, then INTER_AREA; None keeps the frames as they are.
        random_start: start anywhere the clip fits, rather than at the first frame.
        seed: of the random starts, each drawn from (seed, index of the video).
    """

    num_frames: int = 16
    stride: int = 1
    resolution: int | None = None
    random_start: bool = False
    seed: int = 0

    @property
    def span(self) -> int:
        """Frames of the video from the clip's first to its last."""
        return (self.num_frames - 1) * self.stride + 1


@dataclass(frozen=True)
class FVDProtocol:
    """What is fixed before two folders of videos are compared.

    Attributes:
        name: as printed beside the value.
        num_videos: of each folder.
        random_choice: a seeded random choice of reference videos rather than the first in name order.
        num_frames: per clip.
        reference_stride: of reference clips; generated clips have stride 1 and start at their first frame.
        random_start: whether reference clips start at a seeded random frame.
        resolution: side to which both are brought before the extractor's own resize.
        extractor: which network, as `metrics.cli --extractor` names it.
        seed: of the choice and of the starts.
    """

    name: str
    num_videos: int
    random_choice: bool = False
    num_frames: int = 16
    reference_stride: int = 1
    random_start: bool = True
    resolution: int = 256
    extractor: str = "styleganv"
    seed: int = 0

    @property
    def reference_rule(self) -> ClipRule:
        """How a clip is taken from a reference video."""
        return ClipRule(self.num_frames, self.reference_stride, self.resolution, self.random_start, self.seed)

    @property
    def generated_rule(self) -> ClipRule:
        """How a clip is taken from a generated video."""
        return replace(self.reference_rule, stride=1, random_start=False)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        FVDProtocol("styleganv_fvd2048", 2048),
        FVDProtocol("latte_release", 2048, random_choice=True, reference_stride=3),
        FVDProtocol("zero_shot_ucf_10k", 10_000, random_choice=True),
        FVDProtocol("viditq_101", 101, random_choice=True),
        FVDProtocol("tiny", 128, num_frames=8, random_start=False, resolution=32, extractor="shapes_classifier"),
    )
}
