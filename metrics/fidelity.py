"""Same-seed fidelity: how far a quantized model's videos are from the full-precision model's, video by video."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

CAP_DB = 100.0
"""Reported for identical tensors, whose PSNR and SQNR are infinite, so that means and intervals stay finite."""

BATCH = 16
"""Videos in floating point at once: all 2,048 of a protocol, of 16 frames at 256×256, would take 25 GB."""


def psnr(videos: Tensor, reference: Tensor, data_range: float = 255.0) -> Tensor:
    """Peak signal-to-noise ratio over all pixels of each video, by torchmetrics.

    Args:
        videos: uint8 or float (B, T, C, H, W).
        reference: the same shape.
        data_range: the pixels' full range, 255 for uint8.

    Returns:
        float32 (B,), dB, at most 100.

    Raises:
        ValueError: different shapes.
    """
    _check_same_shape(videos, reference)
    pixels = (1, 2, 3, 4)
    values = [
        peak_signal_noise_ratio(batch.float(), target.float(), data_range, reduction="none", dim=pixels)
        for batch, target in zip(videos.split(BATCH), reference.split(BATCH), strict=True)
    ]
    return torch.cat(values).clamp_max(CAP_DB)


def ssim(videos: Tensor, reference: Tensor, data_range: float = 255.0) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each frame, averaged per video, by torchmetrics.

    Args:
        videos: uint8 or float (B, T, C, H, W), H and W at least 11 (the Gaussian window).
        reference: the same shape.
        data_range: the pixels' full range, 255 for uint8.

    Returns:
        float32 (B,), −1 to 1.

    Raises:
        ValueError: different shapes.
    """
    _check_same_shape(videos, reference)
    values: list[Tensor] = []
    for batch, target in zip(videos.split(BATCH), reference.split(BATCH), strict=True):
        frames, target_frames = batch.float().flatten(0, 1), target.float().flatten(0, 1)
        value = structural_similarity_index_measure(frames, target_frames, data_range=data_range, reduction="none")
        assert isinstance(value, Tensor)
        values.append(value)
    return torch.cat(values).view(videos.shape[:2]).mean(1)


def sqnr(values: Tensor, reference: Tensor) -> Tensor:
    """Signal-to-quantization-noise ratio, 10 log₁₀ (Σ reference² / Σ (values − reference)²), of each sample.

    Args:
        values: (B, …), such as a quantized model's noise predictions.
        reference: the same shape, the full-precision predictions.

    Returns:
        float64 (B,), dB, at most 100; −inf where the reference is zero and the values are not.

    Raises:
        ValueError: different shapes.
    """
    _check_same_shape(values, reference)
    values, reference = values.double().flatten(1), reference.double().flatten(1)
    signal, noise = reference.square().sum(1), (values - reference).square().sum(1)
    ratio = 10 * torch.log10(signal / noise)
    return torch.where(noise == 0, CAP_DB, ratio).clamp_max(CAP_DB)


def step_sqnr(predictions: Tensor, reference: Tensor) -> Tensor:
    """SQNR of a quantized denoiser's predictions at each step of sampling, averaged over the videos.

    Teacher-forced when both networks saw the same inputs, the reference's: the error that one step adds. Free-running
    when each followed its own path from the same noise: the error that has come together by that step.

    Args:
        predictions: (steps, B, …).
        reference: the same shape, the full-precision predictions.

    Returns:
        float64 (steps,), dB, at most 100.

    Raises:
        ValueError: different shapes.
    """
    _check_same_shape(predictions, reference)
    return sqnr(predictions.flatten(0, 1), reference.flatten(0, 1)).view(predictions.shape[:2]).mean(1)


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"compared tensors must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
