"""Class-conditional Latte as its authors released it (`maxin-cn/Latte`), and our tiny one of the same layout."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qvd.models.base import BoundaryLayers, ModelAdapter
from qvd.models.class_names import Classes, class_label, class_names
from qvd.models.options import Init

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

    from qvd.quant.reconstruction.settings import Reconstruction

MAX_FEATURES = 512  # rows of a temporal feature; TDScore compares all pairs of them
MIN_CLASSES = 4


class Sampler(Enum):
    """`ddpm` with the learned sigma, as released, or `ddim`; `folder`: whatever scheduler lies beside the weights."""

    folder = "folder"
    ddpm = "ddpm"
    ddim = "ddim"


@dataclass(frozen=True)
class ClassLatteAdapter(ModelAdapter):
    """Adapter of the released class-conditional and unconditional Latte.

    Attributes:
        classes: how prompts name classes; `none` for the unconditional checkpoints.
        sampler: which scheduler draws.
        checkpoint: file of the released weights in `path`; null: `path` is a folder in the hub's layout.
        vae: folder or hub id of the autoencoder that a released checkpoint goes with.
        vae_revision: commit, tag or branch of its hub id.
    """

    classes: Classes = Classes.none
    sampler: Sampler = Sampler.folder
    checkpoint: str | None = None
    vae: str | None = None
    vae_revision: str | None = None

    text_parameters = 0
    resizable = False
    beside_the_denoiser = (*ModelAdapter.beside_the_denoiser, "vae", "vae_revision")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.checkpoint is None) != (self.vae is None):
            raise ValueError("model.checkpoint and model.vae go together: a released checkpoint has no autoencoder")

    @property
    def marker(self) -> str:
        return self.checkpoint or "model_index.json"

    def check(self) -> None:
        """As of every adapter, and ValueError for a geometry that is not the network's own."""
        super().check()
        network, vae = (self._part_config(part) for part in ("transformer", "vae"))
        scale = 2 ** (len(vae["block_out_channels"]) - 1)
        own = {"num_frames": network["num_frames"], "resolution": network["sample_size"] * scale}
        for key, value in own.items():
            if getattr(self, key) != value:
                raise ValueError(f"model.{key}={getattr(self, key)}: this network makes {value} and nothing else")

    def _part_config(self, part: str) -> dict[str, Any]:
        return json.loads((self.config_folder() / part / "config.json").read_text())

    def folders(self) -> list[Path]:
        return [self.folder(), *([self._vae_folder()] if self.vae else [])]

    def _files(self, folder: Path) -> list[Path]:
        # The released folder holds the other checkpoints too.
        return [folder / self.checkpoint] if self.checkpoint and folder == self.folder() else super()._files(folder)

    def _vae_folder(self) -> Path:
        from qvd.models.hub import find_folder

        assert self.vae is not None
        return find_folder(self.vae, self.vae_revision, False, "config.json", option="model.vae")

    def pretrained_pipeline(self) -> DiffusionPipeline:
        from diffusers import AutoencoderKL

        from qvd.models.latte_pipeline import ClassLattePipeline
        from qvd.models.loading import torch_dtype

        dtype = torch_dtype(self.dtype)
        if self.checkpoint is None:
            pipeline = ClassLattePipeline.from_pretrained(self.folder(), dtype=dtype)
        else:
            network: Any = load_released(self.empty_denoiser(), self.folder() / self.checkpoint).to(dtype)
            vae = AutoencoderKL.from_pretrained(self._vae_folder(), dtype=dtype)
            pipeline = ClassLattePipeline(vae, network, None)
        return self._with_sampler(pipeline)

    def random_pipeline(self) -> DiffusionPipeline:
        from qvd.models.latte_pipeline import ClassLattePipeline
        from qvd.models.random_init import random_parts

        return self._with_sampler(ClassLattePipeline(**random_parts(self, "transformer")))

    def _with_sampler(self, pipeline: Any) -> Any:
        from diffusers import DDIMScheduler, DDPMScheduler

        from qvd.models.random_init import read_scheduler

        scheduler = pipeline.scheduler or read_scheduler(self.config_folder())
        classes = {Sampler.ddpm: DDPMScheduler, Sampler.ddim: DDIMScheduler}
        if self.sampler is not Sampler.folder:
            scheduler = classes[self.sampler].from_config(scheduler.config)
        pipeline.register_modules(scheduler=scheduler)
        return pipeline

    def empty_denoiser(self) -> nn.Module:
        from qvd.models.latte_network import ClassLatte
        from qvd.models.random_init import empty_part

        return empty_part(ClassLatte, self.config_folder() / "transformer")

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        import torch

        config: Any = denoiser.config
        dtype = next(denoiser.parameters()).dtype
        shape = (entries, config.num_frames, config.in_channels, config.sample_size, config.sample_size)
        call = {"sample": torch.randn(shape).to(dtype), "timestep": torch.full((entries,), 500)}
        if config.num_classes is not None:
            call["class_labels"] = torch.arange(entries) % (config.num_classes + 1)
        return call

    def denoiser(self, pipeline: DiffusionPipeline) -> nn.Module:
        return pipeline.transformer

    def set_denoiser_(self, pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
        pipeline.transformer = denoiser

    def sample(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        generators: list[torch.Generator],
        num_inference_steps: int,
    ) -> torch.Tensor:
        from qvd.models.loading import decode_video

        latents = pipeline(self._labels(prompts), generators, num_inference_steps, self.guidance_scale).latents
        return decode_video(pipeline.vae, latents, self.decode_chunk_size)

    @property
    def _names(self) -> list[str]:
        return class_names(self.classes)

    def _labels(self, prompts: list[str]) -> list[int] | None:
        if self.classes is Classes.none:
            return None
        if self.init is Init.random:  # no class means anything: any will do
            return [zlib.crc32(prompt.encode()) % len(self._names) for prompt in prompts]
        return [class_label(prompt, self._names) for prompt in prompts]

    def timesteps(self, pipeline: DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        pipeline.scheduler.set_timesteps(num_inference_steps)
        return pipeline.scheduler.timesteps.clone()

    def temporal_feature_sites(self, denoiser: nn.Module) -> list[str]:
        return [name for name, _ in denoiser.named_modules() if name.endswith(".adaLN_modulation.1")]

    def temporal_features(self, denoiser: nn.Module, timesteps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Here the features depend on timestep AND class: a finite set too, but of timesteps × (classes + 1) members.

        They are given class after class, each with all timesteps, the null class first. Where that is more than
        `MAX_FEATURES` rows, these classes stand for all: the null class, those of the largest and of the smallest value
        of the whole set, so that its range is exact, and others evenly spaced, `MIN_CLASSES` at least.
        """
        import torch

        network: Any = denoiser
        parameter = next(network.parameters())
        timesteps = timesteps.to(parameter.device)
        activation = network.blocks[0].adaLN_modulation[0]
        with torch.no_grad():
            embedded = network.t_embedder(timesteps)
            if self.classes is not Classes.none:
                table = network.y_embedder.embedding_table.weight
                kept = _representative_classes(activation, embedded, table)
                embedded = (table[kept][:, None] + embedded[None]).flatten(0, 1)
            features = activation(embedded).float()
        return dict.fromkeys(self.temporal_feature_sites(denoiser), features)

    def boundary_layers(self, denoiser: nn.Module) -> BoundaryLayers:
        return BoundaryLayers(
            first=["x_embedder.proj"], last=["final_layer.linear"], embedders=["t_embedder.mlp.0", "t_embedder.mlp.2"]
        )

    def reconstruction_blocks(self, denoiser: nn.Module, granularity: Reconstruction) -> list[str]:
        from qvd.models.latte_network import Block
        from qvd.quant.reconstruction.units import units_of_types

        return units_of_types(denoiser, granularity, (Block,))

    def split_shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        return {}  # a transformer without skip concatenations


def _representative_classes(activation: nn.Module, embedded: torch.Tensor, table: torch.Tensor) -> list[int]:
    """Rows of the classes' `table` (classes + 1, C), the null class's, which is the last, first."""
    import torch

    null = len(table) - 1
    count = max(MIN_CLASSES, MAX_FEATURES // len(embedded))
    if count > null:
        return [null, *range(null)]
    bounds = torch.stack([torch.stack(activation(row + embedded).aminmax()) for row in table])
    smallest, largest = int(bounds[:, 0].argmin()), int(bounds[:, 1].argmax())
    step = null / (count - 1)
    spaced = [int(i * step) for i in range(count - 1)]
    return list(dict.fromkeys([null, largest, smallest, *spaced]))[:count]


def load_released(network: nn.Module, checkpoint: Path) -> nn.Module:
    """Load a released checkpoint's EMA weights into an empty `ClassLatte`; keys and shapes must match exactly.

    Raises:
        RuntimeError: missing, unexpected or differently shaped weights, by name.
    """
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"]
    network.load_state_dict(state, strict=True, assign=True)
    return network
