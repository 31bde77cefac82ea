"""What QVD can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from qvd.options.calibration import CalibrationPlan
from qvd.options.htdq import HtdqForm
from qvd.options.method import MethodOptions
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.rules import RangeMethod
from qvd.options.scri import ScriMode
from qvd.options.units import Reconstruction


@dataclass(frozen=True)
class QVDOptions(MethodOptions):
    """QVD as far as public sources give it; every switch of its ablation is a field.

    Attributes:
        htdq: the grid of temporal features.
        scri: shift and scale of the other activations.
        tau_candidates: how many τ the scale search tries per shift.
        capture_rows: receptive fields kept per layer to judge SCRI on.
        capture_entries: calibration entries that they are drawn from.
        reconstruction: whether AdaRound learns the folded weights' roundings, activations quantized meanwhile.
        adaround: how.
    """

    name: str = "qvd"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=64, num_steps=10))
    weight_range: RangeMethod = RangeMethod.lp
    activation_range: RangeMethod = RangeMethod.lp
    bias_correction: bool = True
    htdq: HtdqForm = HtdqForm.auto
    scri: ScriMode = ScriMode.guarded
    tau_candidates: int = 10
    capture_rows: int = 512
    capture_entries: int = 32
    reconstruction: Reconstruction = Reconstruction.none
    adaround: AdaRoundSettings = field(default_factory=AdaRoundSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_candidates", "capture_rows", "capture_entries"):
            if getattr(self, name) < 1:
                raise ValueError(f"quantizer.{name}={getattr(self, name)}: must be at least 1")
