"""True architectures with random weights: for memory and time of a dry run, never for quality."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from qvd.models.integrity import load_scheduler, reading, scheduler_class
from qvd.options.hub import read_json, read_key

M = TypeVar("M", bound=nn.Module)


def empty_part(cls: Any, folder: Path) -> Any:
    """A part of a pipeline without memory for its weights (on the meta device), from its config.json."""
    config = read_json(folder / "config.json")
    with reading(f"{folder}/config.json"), init_empty_weights(include_buffers=False):
        return cls.from_config(config)


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
    """The scheduler whose config lies in a pipeline's folder, of the class that is named there.

    Raises:
        ValueError: a class that is no scheduler of diffusers, or a config that none can be made of.
    """
    where = folder / "scheduler"
    name = read_key(where / "scheduler_config.json", "_class_name")
    cls = scheduler_class(str(name))
    if cls is None:
        raise ValueError(f"{where}: {name}: must be a scheduler of diffusers")
    return load_scheduler(cls, where, str(where))


def random_input(denoiser: nn.Module, *shape: int) -> Tensor:
    """Standard normal, on torch's current device and in the denoiser's dtype."""
    return torch.randn(shape).to(next(denoiser.parameters()).dtype)


def random_embeddings(prompts: list[str], tokens: int, channels: int, like: Tensor) -> Tensor:
    """(B, tokens, channels) standard normal in `like`'s dtype and device, drawn from each prompt's own hash."""
    drawn = [
        torch.randn(tokens, channels, generator=torch.Generator().manual_seed(zlib.crc32(p.encode()))) for p in prompts
    ]
    return torch.stack(drawn).to(like)
