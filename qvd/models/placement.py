"""A pipeline made ready to run: frozen, silent, on its device, its denoiser's inputs in its dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from qvd.models.base import ModelAdapter
from qvd.models.parts import torch_dtype
from qvd.options.model import Offload


def place(pipeline: diffusers.DiffusionPipeline, adapter: ModelAdapter, device: str) -> diffusers.DiffusionPipeline:
    """Freeze a pipeline, silence its bar, and put it on `device` or let it be offloaded from there."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()
    dtype = torch_dtype(adapter.dtype)
    if dtype is not torch.float32:
        adapter.denoiser(pipeline).register_forward_pre_hook(_cast_inputs(dtype), with_kwargs=True)
    if device == "cpu" or adapter.offload is Offload.none:
        return pipeline.to(device)
    offload = {
        Offload.model: pipeline.enable_model_cpu_offload,
        Offload.sequential: pipeline.enable_sequential_cpu_offload,
    }
    offload[adapter.offload](device=device)
    return pipeline


def _cast_inputs(dtype: torch.dtype) -> Callable[..., Any]:
    """Calibration sets come as float32; timesteps, with one number per entry, stay as they are."""

    def cast(value: Any) -> Any:
        is_data = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
        return value.to(dtype) if is_data else value

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}

    return hook
