"""What a model family must tell the framework: its pipeline, its denoiser and the special layers in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import nn

from qvd.graph.anatomy import Anatomy, BoundaryLayers
from qvd.graph.units import units_of_types
from qvd.models.hub import find_folder
from qvd.options.hub import MODELS
from qvd.options.model import Init, ModelOptions
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

    def anatomy(self, denoiser: nn.Module) -> Anatomy:
        """What methods may know of the denoiser; only its modules and their shapes are read."""
        return Anatomy(
            boundary=self.boundary,
            temporal_sites=self._temporal_sites(denoiser),
            blocks=units_of_types(denoiser, self.block_types),
            shortcuts=self.shortcuts(denoiser),
            num_frames=self.num_frames,
        )

    def temporal_features(self, denoiser: nn.Module, timesteps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Exact input of every temporal site at each timestep; see `qvd.graph.anatomy.TemporalFeatures`."""
        return dict.fromkeys(self._temporal_sites(denoiser), self.temporal_feature(denoiser, timesteps))

    def _temporal_sites(self, denoiser: nn.Module) -> tuple[str, ...]:
        return tuple(name for name, _ in denoiser.named_modules() if name.endswith(self.temporal_suffix))

    @property
    @abstractmethod
    def boundary(self) -> BoundaryLayers:
        """First, last and timestep-embedding layers."""

    @property
    @abstractmethod
    def block_types(self) -> tuple[type[nn.Module], ...]:
        """Residual and transformer blocks: what a reconstruction treats as one."""

    @property
    @abstractmethod
    def temporal_suffix(self) -> str:
        """How the names of the layers end that read the temporal feature."""

    @abstractmethod
    def temporal_feature(self, denoiser: nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
        """(n_timesteps, channels) float32: what all temporal sites read at each timestep."""

    def shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        """`Anatomy.shortcuts`; there are none in a transformer."""
        return {}
