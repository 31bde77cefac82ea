"""Class-conditional Latte as its authors released it (`maxin-cn/Latte`), and our tiny one of the same layout."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from qvd.graph.anatomy import BoundaryLayers
from qvd.models.class_names import class_label, class_names
from qvd.models.dits import DiTAdapter
from qvd.models.integrity import Part
from qvd.models.latte_network import Block, ClassLatte
from qvd.models.latte_pipeline import ClassLattePipeline
from qvd.models.parts import torch_dtype
from qvd.models.pretrained import load_parts
from qvd.models.random_init import random_input, read_scheduler
from qvd.models.released import load_released
from qvd.options.model import Classes, ClassLatteOptions, Init

MAX_FEATURES = 512  # rows of a temporal feature; TDScore compares all pairs of them
MIN_CLASSES = 4


class ClassLatteAdapter(ClassLatteOptions, DiTAdapter):
    """Adapter of the released class-conditional and unconditional Latte."""

    pipeline_name = "ClassLattePipeline"
    text_parameters = 0
    resizable = False
    pipeline_class, denoiser_class = ClassLattePipeline, ClassLatte
    separate_parts = ("vae",)
    absent_parts = ()
    block_types = (Block,)
    boundary = BoundaryLayers(
        first=("x_embedder.proj",), last=("final_layer.linear",), embedders=("t_embedder.mlp.0", "t_embedder.mlp.2")
    )
    temporal_suffix = ".adaLN_modulation.1"

    def _files(self, folder: Path) -> list[Path]:
        # The released folder holds the other checkpoints too.
        return [folder / self.checkpoint] if self.checkpoint and folder == self.folder() else super()._files(folder)

    def parts(self) -> dict[str, Part]:
        folder = self.part_folder("vae")
        if folder is None:
            return super().parts()
        vae = Part(diffusers.AutoencoderKL, folder, f"model.vae={self.vae}")
        vae.check()
        return {"vae": vae}

    def pretrained_pipeline(self) -> diffusers.DiffusionPipeline:
        if self.checkpoint is None:
            return super().pretrained_pipeline()
        file, dtype = self.folder() / self.checkpoint, torch_dtype(self.dtype)
        network: Any = load_released(self.empty_denoiser(), file, f"model.checkpoint={self.checkpoint}").to(dtype)
        loaded = load_parts(self.parts(), dtype, self.variant)
        return ClassLattePipeline(loaded["vae"], network, read_scheduler(self.config_folder()))

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        config: Any = denoiser.config
        shape = (config.num_frames, config.in_channels, config.sample_size, config.sample_size)
        call = {"sample": random_input(denoiser, entries, *shape), "timestep": torch.full((entries,), 500)}
        if config.num_classes is not None:
            call["class_labels"] = torch.arange(entries) % (config.num_classes + 1)
        return call

    def draw(self, pipeline: Any, prompts: list[str], **sampling: Any) -> torch.Tensor:
        return pipeline(self._labels(prompts), **sampling).latents

    def check_prompts(self, prompts: Sequence[str]) -> None:
        self._labels(list(prompts))

    @property
    def _names(self) -> list[str]:
        return class_names(self.classes)

    def _labels(self, prompts: list[str]) -> list[int] | None:
        if self.classes is Classes.none:
            return None
        if self.init is Init.random:  # no class means anything: any will do
            return [zlib.crc32(prompt.encode()) % len(self._names) for prompt in prompts]
        return [class_label(prompt, self._names) for prompt in prompts]

    def temporal_feature(self, denoiser: nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
        """Here it depends on timestep AND class: a finite set too, but of timesteps × (classes + 1) members.

        They are given class after class, each with all timesteps, the null class first. Where that is more than
        `MAX_FEATURES` rows, these classes stand for all: the null class, those of the largest and of the smallest value
        of the whole set, so that its range is exact, and others evenly spaced, `MIN_CLASSES` at least.
        """
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
            return activation(embedded).float()


def _representative_classes(activation: nn.Module, embedded: torch.Tensor, table: torch.Tensor) -> list[int]:
    """Rows of the classes' `table` (classes + 1, C), the null class's, which is the last, first."""
    null = len(table) - 1
    count = max(MIN_CLASSES, MAX_FEATURES // len(embedded))
    if count > null:
        return [null, *range(null)]
    bounds = torch.stack([torch.stack(activation(row + embedded).aminmax()) for row in table])
    smallest, largest = int(bounds[:, 0].argmin()), int(bounds[:, 1].argmax())
    step = null / (count - 1)
    spaced = [int(i * step) for i in range(count - 1)]
    return list(dict.fromkeys([null, largest, smallest, *spaced]))[:count]
