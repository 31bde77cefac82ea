"""What the compared methods can be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from qvd.options.calibration import CalibrationPlan, TimestepChoice
from qvd.options.method import MethodOptions
from qvd.options.reconstruction import AdaRoundSettings, LsqSettings
from qvd.options.rules import ActivationGranularity, RangeMethod, RangeReduction
from qvd.options.units import Reconstruction


@dataclass(frozen=True)
class NaiveOptions(MethodOptions):
    """Per-channel min-max weights, per-tensor static min-max activations; embedders and the final layer in FP."""

    name: str = "naive"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=10, num_steps=10))


@dataclass(frozen=True)
class ChannelBalanceOptions(MethodOptions):
    """A method that balances channels; see `baselines.channel_balance`.

    Attributes:
        alpha: migration strength in [0, 1]: 0 leaves all difficulty to the weights' own scale, 1 moves all of the
            activations' into them.
    """

    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=64, num_steps=10))
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"quantizer.alpha={self.alpha}: must be in [0, 1]")
        if self.activation_range is not RangeMethod.minmax:
            raise ValueError(
                f"quantizer.activation_range={self.activation_range.value}: must be minmax, the extremes that channels "
                "are balanced by and that a token's range is"
            )


@dataclass(frozen=True)
class SmoothQuantOptions(ChannelBalanceOptions):
    """SmoothQuant; see `baselines.smoothquant`."""

    name: str = "smoothquant"
    weight_symmetric: bool = True
    activation_symmetric: bool = True


@dataclass(frozen=True)
class ViDiTQOptions(ChannelBalanceOptions):
    """ViDiT-Q without its rotation and mixed precision; see `baselines.vidit_q`.

    Attributes:
        float_attention: leave both attention matmuls in floating point, as in the source.
    """

    name: str = "vidit_q"
    activation_granularity: ActivationGranularity = ActivationGranularity.token
    float_attention: bool = True


def _check_average(momentum: float, batch_size: int) -> None:
    """Refuse a running average over batches that is none."""
    if not 0 <= momentum < 1:
        raise ValueError(f"quantizer.momentum={momentum}: must be in [0, 1)")
    if batch_size < 1:
        raise ValueError(f"quantizer.batch_size={batch_size}: must be at least 1")


class Variant(Enum):
    """Whose timestep distribution: the paper's text or the released script."""

    paper = "paper"
    released = "released"


CHOICES = {Variant.paper: TimestepChoice.ndtc_paper, Variant.released: TimestepChoice.ndtc_released}


@dataclass(frozen=True)
class PTQ4DMOptions(MethodOptions):
    """PTQ4DM; see `baselines.ptq4dm`.

    Attributes:
        variant: decides `calibration.timesteps`, unless that is `uniform`, the paper's own ablation.
        momentum: share of the old threshold in the running average.
        batch_size: entries per batch of that average.
        seed: of the order in which batches draw entries.
    """

    name: str = "ptq4dm"
    calibration: CalibrationPlan = field(
        default_factory=lambda: CalibrationPlan(1024, 1, timesteps=TimestepChoice.ndtc_paper)
    )
    weight_range: RangeMethod = RangeMethod.lp
    activation_range: RangeMethod = RangeMethod.lp
    weight_symmetric: bool = True
    activation_symmetric: bool = True
    range_candidates: int = 100
    variant: Variant = Variant.paper
    momentum: float = 0.9
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_average(self.momentum, self.batch_size)
        if self.calibration.timesteps is not TimestepChoice.uniform:
            plan = replace(self.calibration, timesteps=CHOICES[self.variant])
            object.__setattr__(self, "calibration", plan)


@dataclass(frozen=True)
class QDiffusionOptions(MethodOptions):
    """Q-Diffusion; see `baselines.qdiffusion`.

    Attributes:
        reconstruction: `block` is the method; `layer` and `none` are ablations.
        adaround, lsq: how roundings and activation scales are learned.
        running_stat: activation ranges by running min-max instead of the search.
        momentum: its share of the old range.
        batch_size: entries per batch of the activation statistics.
        split_shortcuts: two quantizers for skip concatenations.
        seed: of the order of batches and of the units' random batches.
    """

    name: str = "qdiffusion"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=64, num_steps=10))
    weight_range: RangeMethod = RangeMethod.lp
    activation_range: RangeMethod = RangeMethod.lp
    reconstruction: Reconstruction = Reconstruction.block
    adaround: AdaRoundSettings = field(default_factory=AdaRoundSettings)
    running_stat: bool = False
    momentum: float = 0.95
    batch_size: int = 16
    lsq: LsqSettings = field(default_factory=LsqSettings)
    split_shortcuts: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_average(self.momentum, self.batch_size)
        plain = {
            "activation_granularity": (self.activation_granularity, ActivationGranularity.tensor),
            "range_reduction": (self.range_reduction, RangeReduction.joint),
        }
        for name, (value, allowed) in plain.items():
            if value is not allowed and (self.running_stat or self.lsq.iterations):
                raise ValueError(
                    f"quantizer.{name}={value.value}: running_stat and lsq find per-tensor ranges of their own; "
                    "allowed with quantizer.running_stat=false quantizer.lsq.iterations=0"
                )


@dataclass(frozen=True)
class TFMQOptions(QDiffusionOptions):
    """TFMQ-DM; see `baselines.tfmq`.

    Attributes:
        temporal_rounding: learn the Temporal Information Block's rounding.
        timestep_ranges: one activation range per timestep in it.
    """

    name: str = "tfmq"
    lsq: LsqSettings = field(default_factory=lambda: LsqSettings(iterations=0))
    temporal_rounding: bool = True
    timestep_ranges: bool = True
