"""bfloat16 weights on a CPU without bfloat16 arithmetic: the layers compute in float32, the weights stay small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv3d)
HALVES = (torch.bfloat16, torch.float16)


class Float32Layers(TorchFunctionMode):
    """While active, Linear layers and convolutions on half-precision tensors of a CPU widen what they are given.

    Their output is rounded back, so that everything else is as before. A CPU that has to emulate bfloat16 multiplies
    3 to 5 times slower in it than in float32; one layer's float32 copies are all that this costs in memory.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in LAYERS:
            return func(*args, **kwargs)
        input = args[0] if args else kwargs["input"]
        if input.device.type != "cpu" or input.dtype not in HALVES:
            return func(*args, **kwargs)
        widened = {name: _widened(value) for name, value in kwargs.items()}
        return func(*map(_widened, args), **widened).to(input.dtype)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


def emulates_bfloat16(device: str) -> bool:
    """Whether `device` is a CPU without bfloat16 arithmetic."""
    return device == "cpu" and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def fastest_layers(device: str) -> Iterator[bool]:
    """`Float32Layers` where `device` emulates bfloat16; gives whether it does."""
    if not emulates_bfloat16(device):
        yield False
        return
    with Float32Layers():
        yield True
