"""Procedural clips of one moving shape, drawn with OpenCV, with a caption each.

The embedded default dataset: no download, any number of clips, and every clip is a pure function of
(split, index), so a caption, its attributes and its pixels can be made again anywhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from qvd.data.base import DrawnClips

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = {
    "red": (225, 40, 40),
    "green": (50, 200, 60),
    "blue": (55, 85, 240),
    "yellow": (245, 220, 40),
    "magenta": (225, 60, 215),
    "cyan": (50, 215, 225),
    "white": (245, 245, 245),
}
MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "circling",
    "swinging",
)
BACKGROUNDS = ("plain", "gradient", "striped", "checkered")
ATTRIBUTES = {"shape": SHAPES, "colour": tuple(COLOURS), "motion": MOTIONS}

_SPLITS = {"train": 1, "calibration": 2, "evaluation": 3}
_SUPERSAMPLE = 4
DRAWING_VERSION = 1  # raise it when a pixel changes: it is part of the manifest hash


@dataclass(frozen=True)
class ShapeAttributes:
    """What a clip shows: values of ATTRIBUTES plus the kind of background."""

    shape: str
    colour: str
    motion: str
    background: str

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} {self.motion} on a {self.background} background"

    @property
    def labels(self) -> dict[str, int]:
        """Class index of each attribute, in the order of ATTRIBUTES."""
        return {name: values.index(getattr(self, name)) for name, values in ATTRIBUTES.items()}


@dataclass(frozen=True)
class Clip:
    """One drawn clip.

    Attributes:
        frames: uint8 (T, 3, H, W).
        caption: the text a model would be prompted with.
        source: split and index.
    """

    frames: np.ndarray
    caption: str
    source: str


@dataclass(frozen=True)
class Shapes(DrawnClips):
    """Clips of `num_frames` frames of `resolution`² pixels; deterministic, disjointly seeded splits.

    Attributes:
        resolution: side of the square frames in pixels.
        num_frames: frames per clip.
        split: which split serves as the reference: train, calibration or evaluation.
    """

    resolution: int = 32
    num_frames: int = 8
    split: str = "evaluation"

    def __post_init__(self) -> None:
        for field in ("resolution", "num_frames"):
            if getattr(self, field) < 1:
                raise ValueError(f"dataset.{field}={getattr(self, field)}: must be at least 1")
        if self.split not in _SPLITS:
            raise ValueError(f"dataset.split={self.split}: allowed are {', '.join(_SPLITS)}")

    @property
    def prompts_match_clips(self) -> bool:
        """Whether sample i of the evaluation split is prompted with the caption of clip i."""
        return self.split == "evaluation"

    def manifest(self) -> str:
        """SHA-256 over everything that determines the clips' pixels and order."""
        key = ["shapes", self.split, self.resolution, self.num_frames, DRAWING_VERSION, cv2.__version__]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()

    def describe(self) -> str:
        return f"shapes/{self.split}"

    def attributes(self, index: int) -> ShapeAttributes:
        """Attributes of clip `index` of this split, drawn uniformly and independently."""
        rng = self._rng(index, stream=0)
        return ShapeAttributes(
            shape=SHAPES[rng.integers(len(SHAPES))],
            colour=list(COLOURS)[rng.integers(len(COLOURS))],
            motion=MOTIONS[rng.integers(len(MOTIONS))],
            background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        )

    def prompt(self, index: int, split: str = "evaluation") -> str:
        return replace(self, split=split).attributes(index).caption

    def clip(self, index: int) -> Clip:
        """uint8 (T, 3, H, W) frames of clip `index` with its caption."""
        attributes = self.attributes(index)
        rng = self._rng(index, stream=1)
        frames = _draw(attributes, self.num_frames, self.resolution, rng)
        return Clip(frames=frames.transpose(0, 3, 1, 2), caption=attributes.caption, source=f"{self.split}/{index}")

    def frames(self, index: int) -> np.ndarray:
        return self.clip(index).frames

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([_SPLITS[self.split], index, stream])


def all_captions() -> list[str]:
    """Every caption the dataset can produce; the vocabulary of the tiny text models."""
    return [
        ShapeAttributes(shape, colour, motion, background).caption
        for shape in SHAPES
        for colour in COLOURS
        for motion in MOTIONS
        for background in BACKGROUNDS
    ]


def _draw(attributes: ShapeAttributes, num_frames: int, resolution: int, rng: np.random.Generator) -> np.ndarray:
    canvas = resolution * _SUPERSAMPLE
    background = _background(attributes.background, canvas, rng)
    track = _trajectory(attributes.motion, num_frames, rng) * canvas
    shade = rng.uniform(0.88, 1.0)
    colour = tuple(float(round(channel * shade)) for channel in COLOURS[attributes.colour])
    frames = np.empty((num_frames, resolution, resolution, 3), np.uint8)
    for frame, (x, y, radius) in zip(frames, track, strict=True):
        image = background.copy()
        _draw_shape(image, attributes.shape, colour, x, y, radius)
        cv2.resize(image, (resolution, resolution), dst=frame, interpolation=cv2.INTER_AREA)
    return frames


def _trajectory(motion: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """(T, 3) centre x, centre y and radius, as fractions of the frame side."""
    t = np.linspace(0.0, 1.0, num_frames)
    x = np.full(num_frames, 0.5 + rng.uniform(-0.05, 0.05))
    y = np.full(num_frames, 0.5 + rng.uniform(-0.05, 0.05))
    radius = np.full(num_frames, rng.uniform(0.20, 0.25))
    travel = rng.uniform(0.28, 0.32)
    linear = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    if motion.startswith("moving "):
        dx, dy = linear[motion.removeprefix("moving ")]
        x, y = x + dx * travel * t, y + dy * travel * t  # from the middle outwards
    elif motion in ("growing", "shrinking"):
        small, large = rng.uniform(0.09, 0.12), rng.uniform(0.34, 0.38)
        start, end = (small, large) if motion == "growing" else (large, small)
        radius = start + (end - start) * t
    elif motion == "circling":
        angle = 2 * np.pi * (t * (num_frames - 1) / num_frames - 0.25 + rng.uniform(-0.05, 0.05))  # from the top
        x, y = x + 0.2 * np.cos(angle), y + 0.2 * np.sin(angle)
    elif motion == "swinging":
        x = x + 0.24 * np.sin(2 * np.pi * t * 1.25)  # to the right first
    else:
        raise ValueError(f"motion={motion!r}: allowed are {', '.join(MOTIONS)}")
    return np.stack([x, y, radius], axis=1)


def _background(kind: str, canvas: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (canvas, canvas, 3) in muted tones, so that every foreground colour stands out."""
    first, second = rng.uniform(15, 85, 3), rng.uniform(15, 85, 3)
    ys, xs = np.mgrid[0:canvas, 0:canvas] / canvas
    if kind == "plain":
        weight = np.zeros((canvas, canvas))
    elif kind == "gradient":
        second = first + 70
        weight = ys if rng.integers(2) else xs
    elif kind == "striped":
        second = first + 45
        weight = np.floor((xs if rng.integers(2) else ys) * 8) % 2
    else:
        second = first + 45
        weight = (np.floor(xs * 4) + np.floor(ys * 4)) % 2
    mixed = first + weight[..., None] * (second - first)
    return mixed.round().clip(0, 255).astype(np.uint8)


def _draw_shape(image: np.ndarray, shape: str, colour: tuple, x: float, y: float, radius: float) -> None:
    centre = (round(x), round(y))
    if shape in ("circle", "ring"):
        thickness = -1 if shape == "circle" else max(1, round(radius * 0.36))
        outer = radius if shape == "circle" else radius * 0.82
        cv2.circle(image, centre, round(outer), colour, thickness, cv2.LINE_AA)
        return
    polygon = np.asarray([x, y]) + radius * np.asarray(_outline(shape))
    cv2.fillPoly(image, [polygon.round().astype(np.int32)], colour, cv2.LINE_AA)


@lru_cache
def _outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Vertices of a polygon in the unit circle's scale, y downwards."""
    if shape == "square":
        return ((-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86))
    if shape == "triangle":
        return ((0.0, -1.05), (1.05, 0.85), (-1.05, 0.85))
    arm, reach = 0.34, 1.05
    quadrant = [(arm, -reach), (arm, -arm), (reach, -arm)]
    turn = [quadrant]
    for _ in range(3):
        turn.append([(-py, px) for px, py in turn[-1]])
    return tuple(point for part in turn for point in part)
