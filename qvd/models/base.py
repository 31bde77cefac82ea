"""What a model family must tell the framework: its pipeline, its denoiser and the special layers in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import nn

from qvd.graph.anatomy import BoundaryLayers
from qvd.models.hub import find_folder
from qvd.options.hub import MODELS
from qvd.options.model import Init, ModelOptions
from qvd.options.units import Reconstruction
from qvd.store.digest import file_digest, fingerprint


class ModelAdapter(ModelOptions, ABC):
    """A diffusers text-to-video pipeline with a denoiser to quantize: what a family does with its options."""

    resizable: ClassVar[bool] = True  # whether the network takes any resolution

    # Options that no denoiser call depends on: where files lie (what is in them is the fingerprint's), how memory is
    # saved, and what happens to the latents afterwards.
    beside_the_denoiser: ClassVar[tuple[str, ...]] = ("path", "embedded", "revision", "offload", "decode_chunk_size")

    def folder(self) -> Path:
        """The weights' folder; a hub id's is downloaded once.

        Raises:
            FileNotFoundError: no pipeline at `path`, or a hub id that cannot be reached.
        """
        return find_folder(self.path, self.revision, self.embedded, self.marker)

    def folders(self) -> list[Path]:
        """Every folder that weights are read from."""
        return [self.folder()]

    def fingerprint(self) -> str:
        """What the weights are: a hash over all their files, wherever they lie, or over what random ones are shaped
        by."""
        named = self.architecture is not None or self.init is Init.random
        configs = file_digest(self.config_folder().rglob("*.json")) if named else None
        if self.init is Init.random:
            return f"random {configs}"
        return fingerprint([configs, *(file_digest(self._files(folder)) for folder in self.folders())])

    def _files(self, folder: Path) -> list[Path]:
        """The files of a folder that a sample depends on: not the card and its picture."""
        return [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".md", ".png")]

    def config_folder(self) -> Path:
        """Where every part's config.json lies."""
        if self.architecture is None:
            return self.folder()
        return MODELS / "architectures" / self.architecture

    @abstractmethod
    def pretrained_pipeline(self) -> DiffusionPipeline:
        """The pipeline with its weights, in `dtype`, in main memory."""

    @abstractmethod
    def random_pipeline(self) -> DiffusionPipeline:
        """The same pipeline with random weights, without text encoder: text embeddings are drawn at random too."""

    @abstractmethod
    def empty_denoiser(self) -> nn.Module:
        """The denoiser's architecture without memory for its weights (on the meta device)."""

    @abstractmethod
    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        """Arguments of one denoiser call at the sampler's shapes, on torch's current device and in `dtype`.

        Args:
            denoiser: only its config is read.
            entries: videos in the call; guidance makes two of each sample.
        """

    @property
    @abstractmethod
    def text_parameters(self) -> int:
        """Parameters of the full-size family's text encoder."""

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

    @abstractmethod
    def reconstruction_blocks(self, denoiser: nn.Module, granularity: Reconstruction) -> list[str]:
        """Names of the modules that a reconstruction treats one at a time, in module order.

        They are disjoint and together hold every weighted layer: residual and transformer blocks, and alone the layers
        outside of them; `layer`: every layer alone; `none`: nothing.
        """

    @abstractmethod
    def split_shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        """Layer that reads a U-Net's skip concatenation → the input channel at which the skip's part starts."""
