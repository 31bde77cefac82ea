"""What QVD can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from qvd.options.calibration import CalibrationPlan
from qvd.options.htdq import HtdqForm
from qvd.options.method import MethodOptions
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.rules import RangeMethod
from qvd.options.scri import ScriMode
from qvd.options.units import Reconstruction


class QVDVariant(Enum):
    """Whose QVD: what its public port runs, the abstract's words in their plainest reading, or our own."""

    released = "released"
    paper = "paper"
    ours = "ours"


# What a variant has, where it has not everything.
HAS: dict[QVDVariant, dict[str, tuple[Enum, ...]]] = {
    QVDVariant.released: {
        "scri": (ScriMode.shift, ScriMode.off),
        "htdq": tuple(form for form in HtdqForm if form is not HtdqForm.auto),
        "reconstruction": (Reconstruction.none,),
    },
    QVDVariant.paper: {
        "scri": tuple(mode for mode in ScriMode if mode is not ScriMode.guarded),
        "reconstruction": (Reconstruction.none,),
    },
    QVDVariant.ours: {},
}


@dataclass(frozen=True)
class QVDOptions(MethodOptions):
    """QVD as far as public sources give it; every switch of its ablation is a field.

    Attributes:
        variant: whose QVD the other options are (their defaults here: ours; those of the others stand in
            conf/quantizer/qvd.yaml). Options that a variant does not have are refused.
        htdq: the grid of temporal features.
        scri: shift and scale of the other activations.
        border_correction: shifts are taken back exactly on a convolution's zero padding (the public port does not).
        min_samples: the prompts that `scri=guarded` needs, for it judges on prompts held out. With fewer it leaves
            channels as they are, but for layers that read the timestep alone: of n prompts seen, one more leaves a
            channel's range with probability 2/(n + 1), and a transform that makes room for no more clips it.
        tau_candidates: how many τ the scale search tries per shift.
        capture_rows: receptive fields kept per layer to judge SCRI on.
        capture_entries: calibration entries that they are drawn from.
        reconstruction: whether AdaRound learns the folded weights' roundings, activations quantized meanwhile.
        adaround: how.
    """

    name: str = "qvd"
    variant: QVDVariant = QVDVariant.ours
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=64, num_steps=10))
    weight_range: RangeMethod = RangeMethod.lp
    activation_range: RangeMethod = RangeMethod.lp
    bias_correction: bool = True
    htdq: HtdqForm = HtdqForm.auto
    scri: ScriMode = ScriMode.guarded
    border_correction: bool = True
    min_samples: int = 16
    tau_candidates: int = 10
    capture_rows: int = 512
    capture_entries: int = 32
    reconstruction: Reconstruction = Reconstruction.none
    adaround: AdaRoundSettings = field(default_factory=AdaRoundSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("min_samples", 2), ("tau_candidates", 1), ("capture_rows", 1), ("capture_entries", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"quantizer.{name}={getattr(self, name)}: must be at least {least}")
        for name, allowed in HAS[self.variant].items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"quantizer.{name}={value.value}: quantizer.variant={self.variant.value} has no such; allowed are "
                    f"{', '.join(str(choice.value) for choice in allowed)}"
                )
