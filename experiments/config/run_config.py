"""One run, validated and typed. Options are light; methods and models are built from them when a run needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.nodes import Choice
from experiments.config.reference import Reference
from experiments.options import Export, Tracking
from metrics.options import Protocol
from qvd.data.base import VideoDataset
from qvd.options.bits import FLOATING_POINT, Bits

if TYPE_CHECKING:  # a config is valid before torch is there
    from qvd.backends.base import Backend
    from qvd.methods.base import PTQMethod
    from qvd.models.base import ModelAdapter


FRAME_COUNTS = "frame_counts.jsonl"  # in the store
FP = "fp"  # the choice in conf/quantizer that quantizes nothing


def arm_name(variant: str, bits: str) -> str:
    """How tables call an arm, e.g. "qvd w8a8"; the FP model has no bits."""
    return variant if bits == str(FLOATING_POINT) else f"{variant} {bits}"


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        variant: how the table calls it: the quantizer's name, unless the experiment gives another.
        quantizer: name of the choice in conf/quantizer.
        choice: the method and its options.
        bits: its bit widths.
        n_videos: how many videos it is measured on; what compares with it has as many.
        overrides: command-line words that reproduce this arm alone.
    """

    variant: str
    quantizer: str
    choice: Choice
    bits: Bits
    n_videos: int
    overrides: tuple[str, ...]

    @property
    def options(self) -> Any:
        """What the method is told."""
        return self.choice.options

    @cached_property
    def method(self) -> PTQMethod:
        """The method with its options."""
        return self.choice.build()

    @property
    def name(self) -> str:
        """The row's name, unique within a run."""
        return arm_name(self.variant, str(self.bits))


@dataclass(frozen=True)
class RunConfig:
    """The validated config of one run.

    Attributes:
        n_videos: of an arm that names no number of its own.
        workers: processes that compute arms side by side.
        objective: key of the metric that the run is judged by; None: the one that tables rank by.
    """

    model_name: str
    model_choice: Choice
    fp_choice: Choice
    backend_choice: Choice
    engine_choice: Choice
    dataset: VideoDataset
    protocol: Protocol
    tracking: Tracking
    export: Export
    experiment: str
    arms: tuple[Arm, ...]
    seed: int
    device: str
    n_videos: int
    num_inference_steps: int
    store: str
    workers: int
    objective: str | None

    @cached_property
    def model(self) -> ModelAdapter:
        """The model's adapter."""
        return self.model_choice.build()

    @cached_property
    def backend(self) -> Backend:
        """What executes the quantized denoisers."""
        return self.backend_choice.build()

    @cached_property
    def engine(self) -> Any:
        """What computes the arms: an `experiments.engines.base.Engine`, which itself knows this class."""
        return self.engine_choice.build()

    @property
    def all_arms(self) -> list[Arm]:
        """The arms in the table's order, the FP model before the first that is measured on as many videos."""
        arms: list[Arm] = []
        for arm in (self.floating_point(self.n_videos), *self.arms):
            reference = self.floating_point(arm.n_videos)
            if reference.name not in {other.name for other in arms}:
                arms.append(reference)
            if not arm.bits.is_float:
                arms.append(arm)
        return arms

    def floating_point(self, n_videos: int) -> Arm:
        """The arm that those on as many videos are compared with."""
        own = n_videos == self.n_videos
        words = (f"quantizer={FP}", *([] if own else [f"n_videos={n_videos}"]))
        variant = FP if own else f"{FP}, N = {n_videos}"
        return Arm(variant, FP, self.fp_choice, FLOATING_POINT, n_videos, words)

    @cached_property
    def reference(self) -> Reference:
        """The reference clips and prompts."""
        return Reference(self.dataset, self.protocol, self.n_videos, Path(self.store) / FRAME_COUNTS)
