"""True architectures with random weights: for memory and time of a dry run, never for quality."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json that diffusers saves beside a part's weights."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def empty_part(cls: Any, folder: Path) -> Any:
    """A part of a pipeline without memory for its weights (on the meta device), from its config.json."""
    with init_empty_weights(include_buffers=False):
        return cls.from_config(read_config(folder))


@torch.no_grad()
def fill_(model: M, dtype: torch.dtype, seed: int = 0) -> M:
    """Give every parameter memory and values: weights normal with deviation 1/√fan-in, norms 1, biases 0.

    The same seed gives the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            values = torch.zeros(parameter.shape, dtype=dtype)
            if parameter.dim() > 1:
                values.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif name == "weight":
                values.fill_(1)
            module._parameters[name] = nn.Parameter(values, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)
    return model.eval()


def read_scheduler(folder: Path) -> Any:
    """The scheduler whose config lies in a pipeline's folder."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return getattr(diffusers, config["_class_name"]).from_config(config)


def random_input(denoiser: nn.Module, *shape: int) -> Tensor:
    """Standard normal, on torch's current device and in the denoiser's dtype."""
    return torch.randn(shape).to(next(denoiser.parameters()).dtype)


def random_embeddings(prompts: list[str], tokens: int, channels: int, like: Tensor) -> Tensor:
    """(B, tokens, channels) standard normal in `like`'s dtype and device, drawn from each prompt's own hash."""
    drawn = [
        torch.randn(tokens, channels, generator=torch.Generator().manual_seed(zlib.crc32(p.encode()))) for p in prompts
    ]
    return torch.stack(drawn).to(like)
