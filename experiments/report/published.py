"""Values read off papers, each with its source: anchors for the reader, never inputs of a computation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedValue:
    """One number as its authors (or, if `secondary`, somebody who measured or quoted them) report it.

    Attributes:
        model: the generator, and the arm where the number is about quantization.
        dataset: what the generator was evaluated on.
        metric: "FVD" or "CLIPSIM" (mean cosine, not ×100).
        value: the number as printed, so that no digit is gained or lost.
        setting: what is known of resolution, number of videos and sampling.
        source: where the number stands.
        secondary: not read in the model's own paper.
    """

    model: str
    dataset: str
    metric: str
    value: str
    setting: str
    source: str
    secondary: bool = False


_LATTE = "Latte, arXiv 2401.03048"
_MODELSCOPE = "ModelScopeT2V, arXiv 2308.06571"

PUBLISHED = (
    PublishedValue("ModelScope T2V, FP", "MSR-VTT", "FVD", "550", "256², 16 frames", _MODELSCOPE),
    PublishedValue("ModelScope T2V, FP", "MSR-VTT", "CLIPSIM", "0.2930", "256², 16 frames", _MODELSCOPE),
    PublishedValue(
        "ModelScope T2V, FP", "UCF-101 zero-shot", "FVD", "410", "256², 16 frames", "quoted by later papers", True
    ),
    PublishedValue("VideoLDM, FP", "MSR-VTT", "CLIPSIM", "0.2929", "2990 captions", "VideoLDM, arXiv 2304.08818"),
    PublishedValue("Latte-XL/2, FP", "FaceForensics", "FVD", "34.00", "256², 16 frames", _LATTE),
    PublishedValue("Latte-XL/2, FP", "SkyTimelapse", "FVD", "59.82", "256², 16 frames", _LATTE),
    PublishedValue(
        "Latte-XL/2, FP",
        "Taichi-HD",
        "FVD",
        "97.09",
        "256², 16 frames; real clips at stride 6",
        f"{_LATTE}; Vchitect/Latte#115",
    ),
    PublishedValue(
        "Latte-XL/2, FP",
        "UCF-101",
        "FVD",
        "478",
        "256², 16 frames; the released model scores 168 under another clip selection",
        f"{_LATTE}; Vchitect/Latte#123",
    ),
    PublishedValue(
        "Latte, FP", "UCF-101", "FVD", "99.90", "N = 101 (biased at so few videos)", "Q-VDiT, arXiv 2505.22167", True
    ),
    PublishedValue(
        "QVD against the best prior PTQ", "abstract", "FVD", "−205.12", "difference", "QVD, arXiv 2407.11585"
    ),
)
