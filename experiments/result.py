"""What one arm of an experiment leaves behind: the input of tables, figures, report and tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, Protocol

from torch import Tensor

from experiments.config.run_config import arm_name
from experiments.scores import Scores

_NAMED, _LETTERS = 3, 80  # prompts in a note, and letters of each


class Videos(Protocol):
    """uint8 (N, T, 3, H, W), in memory or on disk."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True)
class Estimate:
    """A metric's value for an arm, None where the arm has none, and its 95 % interval, None where there is none."""

    value: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ExtractorIdentity:
    """The network whose features FVD compares: its name, and the SHA-256 of its weights."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a number must carry to mean anything.

    Attributes:
        embedded: the model is one of those that ship with the repository.
        random_weights: the model's weights are random.
        reference: what the reference clips are.
        n_videos: N, of the arm.
        resolution: side of the square frames in pixels.
        prompts_digest: of the N prompts in their order; empty of a run before there were digests.
        model_digest: of the FP model's weights and of all else that its videos depend on, seed and steps aside.
    """

    protocol: str
    model: str
    embedded: bool
    random_weights: bool
    reference: str
    extractor: ExtractorIdentity
    n_videos: int
    num_frames: int
    resolution: int
    num_inference_steps: int
    seed: int
    prompts_digest: str = ""
    model_digest: str = ""


@dataclass(frozen=True)
class ModelBytes:
    """Size of a denoiser: as it is stored, and as its bits would allow."""

    stored: int
    theoretical: int


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What an arm costs.

    Attributes:
        macs: multiplications of one denoiser call and batch entry.
        bops: bit operations of the same, MACs · weight bits · activation bits.
        seconds: of each stage, when it was computed.
        peak_memory_bytes: of each stage.
    """

    model_bytes: ModelBytes
    macs: float
    bops: float
    seconds: Mapping[str, float]
    peak_memory_bytes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class StepSqnr:
    """dB of the predictions at each sampler step against FP's, see `metrics.fidelity.step_sqnr`.

    Attributes:
        videos: how many they are the mean of.
    """

    videos: int
    teacher_forced: Sequence[float]
    free_running: Sequence[float]


@dataclass(frozen=True)
class CutPrompts:
    """Prompts whose ends a text encoder never sees: two that differ only there are one to it.

    Attributes:
        reader: the text encoder that cuts them.
        limit: the tokens that it reads.
        total: how many distinct prompts it was given.
        prompts: those that are longer.
    """

    reader: str
    limit: int
    total: int
    prompts: Sequence[str]

    @property
    def note(self) -> str:
        """One line for log and report."""
        named = [repr(shorten(prompt, _LETTERS, placeholder=" …")) for prompt in self.prompts[:_NAMED]]
        more = ", …" if len(self.prompts) > _NAMED else ""
        return (
            f"{len(self.prompts)} of {self.total} prompts are longer than the {self.limit} tokens that {self.reader} "
            f"reads, and cut there: {', '.join(named)}{more}"
        )


@dataclass(frozen=True, kw_only=True)
class ArmMetrics:
    """The numbers of one arm: a row of a table.

    Attributes:
        variant: how the experiment calls it, by default the quantizer's name.
        quantizer: name of the quantizer config, e.g. "qvd".
        bits: "fp", "w8a8", …
        estimates: by the declared metric's key, see `metrics.declaration`.
        step_sqnr: None for FP, which it compares with.
        remarks: what else is known of the numbers, JSON-ready: `n_reference`, `warning`, a metric's details, `missing`
            (column → why it is empty), the method's own summary.
        prompts_cut: of the arm's run, which alone knows them.
        command: the shell command that repeats exactly this arm.
        setting: what tells the arm's run from the others of a sweep, e.g. "model.disparity=4".
        scores: video by video; empty where they are not at hand.
    """

    variant: str
    quantizer: str
    bits: str
    conditions: Conditions
    costs: Costs
    estimates: Mapping[str, Estimate]
    step_sqnr: StepSqnr | None = None
    remarks: Mapping[str, Any] = field(default_factory=dict)
    prompts_cut: Sequence[CutPrompts] = ()
    command: str
    setting: str = ""
    scores: Scores = field(default_factory=Scores, compare=False)

    @property
    def name(self) -> str:
        """Unique within a run."""
        return arm_name(self.variant, self.bits)

    def estimate(self, key: str) -> Estimate:
        """Of a metric; empty where an older run knew none of that key."""
        return self.estimates.get(key, Estimate())


@dataclass(frozen=True, kw_only=True)
class FailedJob:
    """A job of a sweep that ended in an error: a row of the joint table without numbers.

    Attributes:
        name: of its arm, or of its experiment.
        quantizer, bits: as the command line or the defaults have them.
        error: why it failed, in one line.
        command: that repeats it.
        setting: as of `ArmMetrics`.
    """

    name: str
    quantizer: str
    bits: str
    error: str
    command: str
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class ArmResult(ArmMetrics):
    """An arm with everything that pictures, report and tracking show of it.

    Attributes:
        prompts: the captions, in sample order.
        videos: in sample order.
        quantization_map: one row per quantized layer or matmul operand; empty for FP.
        histograms: activation histograms by site: {"counts": array, "low": float, "high": float}.
    """

    prompts: list[str]
    videos: Videos
    quantization_map: list[dict[str, Any]]
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)


def drawable(arms: list[ArmResult], limit: int) -> list[ArmResult]:
    """The arms that a picture shows: those of the first one's N, since another N begins with the same videos; of more
    than `limit` there is room for FP and the first ones at the last arm's bits."""
    arms = of_one_size(arms)
    if len(arms) <= limit:
        return arms
    return [arm for arm in arms if arm.bits in ("fp", arms[-1].bits)][:limit]


def of_one_size(arms: Sequence[ArmResult]) -> list[ArmResult]:
    """The arms on as many videos as the first."""
    return [arm for arm in arms if arm.conditions.n_videos == arms[0].conditions.n_videos]
