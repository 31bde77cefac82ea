"""What one arm of an experiment leaves behind: the input of tables, figures, report and tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ArmResult:
    """One (quantizer, bits) combination, evaluated.

    Attributes:
        quantizer: name of the quantizer config, e.g. "qvd".
        bits: "fp", "w8a8", …
        metrics: what metrics.json holds (see `experiments.evaluation.evaluate`): `fvd`, `fvd_inf`, `fvd_ci`,
            `fvd_fp`, `fvd_fp_ci`, `clipsim`, `clipsim_ci`, `clip_temp`, `psnr_fp`, `psnr_fp_ci`, `ssim_fp`,
            `ssim_fp_ci`, `flicker`, `n_videos`, `protocol`, `reference`, `extractor`, `model_bytes`, `seconds`,
            `peak_memory_bytes`. An interval is [low, high]; a cell that cannot be filled is None.
        prompts: the captions, in sample order.
        videos: uint8 (N, T, 3, H, W), in sample order.
        quantization_map: one row per quantized layer or matmul operand; empty for FP.
        histograms: activation histograms by site: {"counts": [..], "low": float, "high": float}.
        command: the shell command that repeats exactly this arm.
    """

    quantizer: str
    bits: str
    metrics: dict[str, Any]
    prompts: list[str]
    videos: torch.Tensor
    quantization_map: list[dict[str, Any]]
    command: str
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "fp" if self.quantizer == "fp" else f"{self.quantizer} {self.bits}"
