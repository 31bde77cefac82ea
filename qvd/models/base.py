"""What a model family must tell the framework: its pipeline, its denoiser and the special layers in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn


@dataclass(frozen=True)
class BoundaryLayers:
    """Layers that quantization methods treat apart, by module name.

    Attributes:
        first: layers that read the noisy latents.
        last: layers that write the prediction.
        embedders: layers that embed the timestep once for the whole network.
    """

    first: list[str]
    last: list[str]
    embedders: list[str]


@dataclass(frozen=True)
class ModelAdapter(ABC):
    """A diffusers text-to-video pipeline with a denoiser to quantize.

    Attributes:
        path: folder in the hub's layout, or a hub id.
        num_frames: frames per video.
        resolution: side of the square frames in pixels.
        num_inference_steps: sampler steps unless the run says otherwise.
        guidance_scale: classifier-free guidance.
        batch_size: videos sampled together; part of a sampling stage's resume granularity, not of its result.
        embedded: whether the weights ship with the repository (labelled so in tables).
    """

    path: str
    num_frames: int
    resolution: int
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    embedded: bool = False

    def __post_init__(self) -> None:
        for field in ("num_frames", "resolution", "num_inference_steps", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"model.{field}={getattr(self, field)}: must be at least 1")
        if self.guidance_scale < 0:
            raise ValueError(f"model.guidance_scale={self.guidance_scale}: must not be negative")

    def folder(self) -> Path:
        """The weights' folder.

        Raises:
            FileNotFoundError: when `path` is no folder in the hub's layout.
        """
        folder = Path(self.path)
        if not folder.is_absolute() and self.embedded:
            folder = Path(__file__).parent / folder
        if not (folder / "model_index.json").is_file():
            raise FileNotFoundError(
                f"model.path={self.path}: no diffusers pipeline there (model_index.json is missing)"
            )
        return folder

    @abstractmethod
    def load_pipeline(self, device: str) -> DiffusionPipeline:
        """The frozen fp32 pipeline in eval mode on `device`."""

    @abstractmethod
    def denoiser(self, pipeline: DiffusionPipeline) -> nn.Module:
        """The network that the sampler calls at every step."""

    @abstractmethod
    def set_denoiser_(self, pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
        """Swap the denoiser of `pipeline`."""

    @abstractmethod
    def sample(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        generators: list[torch.Generator],
        num_inference_steps: int,
    ) -> torch.Tensor:
        """uint8 (B, T, 3, H, W) videos, one per prompt, from the generators' initial noise."""

    @abstractmethod
    def timesteps(self, pipeline: DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        """The sampler's whole timestep set, in sampling order."""

    @abstractmethod
    def temporal_feature_sites(self, denoiser: nn.Module) -> list[str]:
        """Names of the Linear layers whose input is a pure function of the timestep (HTDQ's sites)."""

    @abstractmethod
    def temporal_features(self, denoiser: nn.Module, timesteps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Exact input (n_timesteps, channels) of every temporal-feature site at each timestep."""

    @abstractmethod
    def boundary_layers(self, denoiser: nn.Module) -> BoundaryLayers:
        """First, last and timestep-embedding layers."""


def silence_loading() -> None:
    """Keep diffusers' and transformers' own bars and notices out of the terminal; ours show the progress."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
