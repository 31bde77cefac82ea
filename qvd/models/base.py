"""What a model family must tell the framework: its pipeline, its denoiser and the special layers in it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from torch import nn

from qvd.graph.anatomy import Anatomy, BoundaryLayers
from qvd.graph.units import units_of_types
from qvd.models.hub import find_folder
from qvd.models.integrity import Part, index_parts, reading
from qvd.models.parts import decode_video, torch_dtype
from qvd.models.pretrained import load_parts
from qvd.models.random_init import empty_part, fill_, read_scheduler
from qvd.models.schedulers import noise_of_each_sample
from qvd.options.hub import MODELS, read_key
from qvd.options.model import Init, ModelOptions
from qvd.store.digest import file_digest, fingerprint


class ModelAdapter(ModelOptions, ABC):
    """A diffusers text-to-video pipeline with a denoiser to quantize: what a family does with its options.

    Families derive from `qvd.models.unets.UNetAdapter` or `qvd.models.dits.DiTAdapter`.
    """

    pipeline_name: ClassVar[str]  # the pipeline's class, as its model_index.json has it
    part: ClassVar[str]  # the denoiser's name in the pipeline
    resizable: ClassVar[bool] = True  # whether the network takes any resolution
    max_tokens: ClassVar[int | None] = None  # that the pipeline reads of a prompt, where its tokenizer would give more
    separate_parts: ClassVar[tuple[str, ...]] = ()  # options that name parts with a folder of their own
    absent_parts: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer")  # of a pipeline with random weights

    def folder(self) -> Path:
        """The weights' folder; a hub id's is downloaded once.

        Raises:
            FileNotFoundError: no pipeline at `path`, or a hub id that cannot be reached.
        """
        return find_folder(self.path, self.revision, self.embedded, self.marker, variant=self.variant)

    def part_folder(self, part: str) -> Path | None:
        """The folder of one of `separate_parts`, found likewise; None where its option names none."""
        path, revision = getattr(self, part), getattr(self, f"{part}_revision")
        if path is None:
            return None
        return find_folder(path, revision, False, "config.json", option=f"model.{part}", variant=self.variant)

    def folders(self) -> list[Path]:
        """Every folder that weights are read from."""
        return [self.folder(), *filter(None, map(self.part_folder, self.separate_parts))]

    @property
    def beside_the_denoiser(self) -> tuple[str, ...]:
        """Options that no denoiser call depends on: where files lie (what is in them is the fingerprint's), how memory
        is saved, and what happens to the latents afterwards."""
        parts = (name for part in self.separate_parts for name in (part, f"{part}_revision"))
        return ("path", "embedded", "revision", "offload", "decode_chunk_size", *parts)

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

    @property
    def pipeline_class(self) -> Any:
        """The family's pipeline; diffusers imports such a class, for seconds, where it is first named."""
        return getattr(diffusers, self.pipeline_name)

    @property
    @abstractmethod
    def denoiser_class(self) -> Any:
        """The network that the sampler calls at every step."""

    @property
    @abstractmethod
    def text_parameters(self) -> int:
        """Parameters of the full-size family's text encoder."""

    def parts(self) -> dict[str, Part]:
        """What the weights' folders hold for the pipeline, by name; nothing of it is read yet.

        Raises:
            FileNotFoundError, ValueError: another family's folder, or one that lacks a part; in one line.
        """
        return index_parts(self.pipeline_class, self.folder(), f"model.path={self.path}")

    def pretrained_pipeline(self) -> diffusers.DiffusionPipeline:
        """The pipeline with its weights, in `dtype`, in main memory.

        Raises:
            FileNotFoundError, ValueError: as `parts`, and weights that cannot be read or do not fit; in one line.
        """
        loaded = load_parts(self.parts(), torch_dtype(self.dtype), self.variant)
        names = inspect.signature(self.pipeline_class.__init__).parameters.keys() - {"self"}
        with reading(f"model.path={self.path}"):
            return self.pipeline_class(**dict.fromkeys(names) | loaded)

    def random_pipeline(self) -> diffusers.DiffusionPipeline:
        """The same pipeline with random weights, without text encoder: text embeddings are drawn at random too."""
        dtype, folder = torch_dtype(self.dtype), self.config_folder()
        parts = {
            "vae": fill_(empty_part(diffusers.AutoencoderKL, folder / "vae"), dtype),
            "scheduler": read_scheduler(folder),
            self.part: fill_(self.empty_denoiser(), dtype),
        }
        return self.pipeline_class(**parts, **dict.fromkeys(self.absent_parts))

    def empty_denoiser(self) -> nn.Module:
        """The denoiser's architecture without memory for its weights (on the meta device)."""
        return empty_part(self.denoiser_class, self.config_folder() / self.part)

    @property
    def latent_side(self) -> int:
        """Side of the square latents at the model's resolution."""
        levels = len(read_key(self.config_folder() / "vae" / "config.json", "block_out_channels"))
        return self.resolution // 2 ** (levels - 1)

    @abstractmethod
    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        """Arguments of one denoiser call at the sampler's shapes, on torch's current device and in `dtype`.

        Args:
            denoiser: only its config and dtype are read.
            entries: videos in the call; guidance makes two of each sample.
        """

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that nothing can be drawn for.

        Raises:
            ValueError: the first of them.
        """

    def denoiser(self, pipeline: diffusers.DiffusionPipeline) -> nn.Module:
        """The network that the sampler calls at every step."""
        return getattr(pipeline, self.part)

    def set_denoiser_(self, pipeline: diffusers.DiffusionPipeline, denoiser: nn.Module) -> None:
        """Swap the denoiser of `pipeline`."""
        setattr(pipeline, self.part, denoiser)

    def sample(
        self,
        pipeline: diffusers.DiffusionPipeline,
        prompts: list[str],
        generators: list[torch.Generator],
        num_inference_steps: int,
    ) -> torch.Tensor:
        """uint8 (B, T, 3, H, W) videos, one per prompt, from the generators' noise, whatever the batch."""
        with noise_of_each_sample(pipeline.scheduler):
            latents = self.draw(
                pipeline,
                prompts,
                generator=generators,
                num_inference_steps=num_inference_steps,
                guidance_scale=self.guidance_scale,
            )
        return decode_video(pipeline.vae, latents, self.decode_chunk_size)

    @abstractmethod
    def draw(self, pipeline: Any, prompts: list[str], **sampling: Any) -> torch.Tensor:
        """Latents (B, C, T, h, w), as the sampler leaves them; `sampling` are further arguments of the pipeline."""

    def timesteps(self, pipeline: diffusers.DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        """The sampler's whole timestep set, in sampling order."""
        pipeline.scheduler.set_timesteps(num_inference_steps)
        return pipeline.scheduler.timesteps.clone()

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

    @abstractmethod
    def shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        """Layer that reads a skip concatenation → the input channel at which the skip's part starts."""
