"""Which clips are compared, and by which networks: without its protocol an FVD value means nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

EXTRACTORS = ("styleganv", "i3d", "videomae", "shapes_classifier")


class ClipChoice(StrEnum):
    """Which videos of the reference are used.

    `first`: the first N in natural order; `random`: N by a seeded draw; `windows`: every non-overlapping window of the
    videos in natural order, until there are N, for folders of few and long videos.
    """

    first = "first"
    random = "random"
    windows = "windows"


class Resize(StrEnum):
    """How a centre-cropped square is brought to the resolution.

    `area`: OpenCV's INTER_AREA; `bilinear`: without antialiasing, as Latte does; `lanczos`: PIL's, as StyleGAN-V does.
    """

    area = "area"
    bilinear = "bilinear"
    lanczos = "lanczos"


class Prompts(StrEnum):
    """What video i is generated for.

    `captions`: the caption of reference clip i; `classes`: the reference's distinct captions in turn, so that every
    class gets the same number of videos; `shapes`: the captions of the embedded dataset, whatever the reference.
    """

    captions = "captions"
    classes = "classes"
    shapes = "shapes"


@dataclass(frozen=True)
class ClipRule:
    """Which frames of a video become its clip, and at what size.

    Attributes:
        num_frames: frames per clip (T).
        stride: distance of the clip's frames in the video.
        resolution: side of the square clip, cut from the centre; None keeps the frames as they are.
        random_start: start anywhere the clip fits, rather than at the first frame.
        seed: of the random starts, each drawn from (seed, index of the video).
        resize: how the resolution is reached.
    """

    num_frames: int = 16
    stride: int = 1
    resolution: int | None = None
    random_start: bool = False
    seed: int = 0
    resize: Resize = Resize.area

    @property
    def span(self) -> int:
        """Frames of the video from the clip's first to its last."""
        return (self.num_frames - 1) * self.stride + 1


@dataclass(frozen=True)
class Protocol:
    """What stands behind every FVD and CLIPSIM value.

    Attributes:
        name: as printed beside the value.
        n_videos: of each side.
        n_reference: of the reference, where it has another number; None: as many as generated videos.
        min_videos: fewer are refused.
        num_frames: per clip.
        resolution: side to which both sides are brought before the extractor's own resize.
        choice: of the reference's videos.
        random_start: whether a reference clip starts at a seeded random frame rather than at the first.
        stride: of reference clips; generated clips have stride 1 and start at their first frame.
        resize: how the resolution is reached.
        prompts: what is generated.
        seed: of the choice and of the starts.
        extractor: network of the features, one of `EXTRACTORS`.
        extractor_weights: its file; None is the embedded one or a download that is verified by checksum.
        clip: CLIPSIM's model: `shapes_clip` (embedded), or a hub id or folder of a transformers CLIPModel.
        lpips_weights: torchvision's AlexNet file; None leaves LPIPS out.
    """

    name: str
    n_videos: int
    min_videos: int
    num_frames: int
    resolution: int
    n_reference: int | None = None
    choice: ClipChoice = ClipChoice.first
    random_start: bool = False
    stride: int = 1
    resize: Resize = Resize.area
    prompts: Prompts = Prompts.captions
    seed: int = 0
    extractor: str = "styleganv"
    extractor_weights: str | None = None
    clip: str = "openai/clip-vit-base-patch32"
    lpips_weights: str | None = None

    def __post_init__(self) -> None:
        if self.min_videos < 8:
            raise ValueError(f"protocol.min_videos={self.min_videos}: must be at least 8, or FVD∞ has nothing to fit")
        if self.n_videos < self.min_videos:
            raise ValueError(f"protocol.n_videos={self.n_videos}: must be at least min_videos={self.min_videos}")
        if self.n_reference is not None and self.n_reference < self.min_videos:
            raise ValueError(
                f"protocol.n_reference={self.n_reference}: must be at least min_videos={self.min_videos}, or null"
            )
        for field in ("num_frames", "resolution", "stride"):
            if getattr(self, field) < 1:
                raise ValueError(f"protocol.{field}={getattr(self, field)}: must be at least 1")
        if self.random_start and self.choice is ClipChoice.windows:
            raise ValueError("protocol.random_start=true: windows have their own starts; use choice=first or random")
        if self.extractor not in EXTRACTORS:
            raise ValueError(f"protocol.extractor={self.extractor}: allowed are {', '.join(EXTRACTORS)}")
        for field in ("extractor_weights", "lpips_weights"):
            path = getattr(self, field)
            if path is not None and not os.path.isfile(path):
                raise ValueError(f"protocol.{field}={path}: no such file")

    @property
    def reference_rule(self) -> ClipRule:
        """How a clip is taken from a reference video."""
        return ClipRule(self.num_frames, self.stride, self.resolution, self.random_start, self.seed, self.resize)

    @property
    def generated_rule(self) -> ClipRule:
        """How a clip is taken from a generated video."""
        return ClipRule(self.num_frames, resolution=self.resolution, resize=self.resize)
