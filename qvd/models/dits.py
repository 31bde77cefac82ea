"""What the adapters of video diffusion transformers (DiTs) share."""

from __future__ import annotations

from torch import nn

from qvd.models.base import ModelAdapter


class DiTAdapter(ModelAdapter):
    """Base of a family whose denoiser is a transformer without skip concatenations."""

    part = "transformer"

    def shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        return {}
