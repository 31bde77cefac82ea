"""Two small arms with real clips of the embedded dataset; the quantized one is the FP one plus noise."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from experiments.record import arm_from_record
from experiments.report.figures import figure_pngs
from experiments.result import ArmResult
from qvd.data.shapes import Shapes

SITES = ("conv_in", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "conv_out")


def make_arm(quantizer: str, bits: str, videos: torch.Tensor, prompts: list[str], **metrics: Any) -> ArmResult:
    is_fp = quantizer == "fp"
    same_seed = {
        "fvd_fp": None if is_fp else 1.23456789,
        "fvd_fp_ci": None if is_fp else [1.0, 1.5],
        "psnr_fp": None if is_fp else 28.9,
        "psnr_fp_ci": None if is_fp else [28.5, 29.4],
        "ssim_fp": None if is_fp else 0.931,
        "ssim_fp_ci": None if is_fp else [0.921, 0.941],
    }
    measured = {
        "model": "tiny_modelscope",
        "embedded": True,
        "random_weights": False,
        "num_inference_steps": 10,
        "seed": 0,
        "fvd": 41.23456,
        "fvd_ci": [38.94, 44.0321],
        "fvd_inf": 33.0,
        "clipsim": 0.29311,
        "clipsim_ci": [0.2901, 0.2962],
        "clip_temp": 0.987,
        "flicker": 3.2,
        "n_videos": len(videos),
        "num_frames": videos.shape[1],
        "resolution": videos.shape[-1],
        "protocol": "tiny",
        "reference": "shapes/evaluation",
        "extractor": {"name": "shapes_classifier", "sha256": "9f86d081884c7d659a2f" + "0" * 44},
        "model_bytes": {"stored": 1_720_000, "theoretical": 1_580_000},
        "kvd": 0.0123456,
        "macs": 8_000_000_000,
        "bops": 512_345_678_901 if is_fp else 40_123_456_789,
        "seconds": {"sampling": 55.25, "evaluation": 6.0},
        "peak_memory_bytes": {"sampling": 900_000_000, "evaluation": 1_200_000_000},
    }
    rng = np.random.default_rng(0)
    histograms = {s: {"counts": rng.integers(0, 99, 2048).tolist(), "low": -4.0, "high": 6.0} for s in SITES}
    quantization_map = [] if is_fp else [_map_row(site) for site in SITES]
    command = f"python run.py quantizer={quantizer} bits={bits}"
    named = {"variant": quantizer, "quantizer": quantizer, "bits": bits, "command": command}
    numbers = arm_from_record(named | measured | same_seed | metrics)
    return ArmResult(
        **{field.name: getattr(numbers, field.name) for field in fields(numbers)},
        prompts=prompts,
        videos=videos,
        quantization_map=quantization_map,
        histograms=histograms,
    )


def _map_row(site: str) -> dict[str, Any]:
    bits = {"weight_bits": 8, "activation_bits": 8}
    return {
        "layer": site,
        "kind": "linear",
        **bits,
        "grid": "affine",
        "range": [-3.0, 5.0],
        "rule": "<all>",
        "notes": {},
    }


@pytest.fixture(scope="session")
def arms() -> list[ArmResult]:
    clips = [Shapes().clip(index) for index in range(3)]
    videos = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    prompts = [clip.caption for clip in clips]
    noise = 20 * torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    noisy = (videos + noise).clamp(0, 255).to(torch.uint8)
    return [make_arm("fp", "fp", videos, prompts), make_arm("qvd", "w8a8", noisy, prompts)]


@pytest.fixture(scope="session")
def pngs(arms):
    """Drawn before a test moves HOME: matplotlib keeps its font cache there."""
    return figure_pngs(arms)
