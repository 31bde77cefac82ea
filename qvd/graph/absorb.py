"""Which norms can absorb a channel shift and scale: found by following their outputs through one forward call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qvd.graph.sites import Weighted, num_groups, weighted_layers

# Calls that only move elements; channels stay together because a consumer's channel count must equal the norm's.
LAYOUT = {
    "permute",
    "transpose",
    "reshape",
    "view",
    "contiguous",
    "unsqueeze",
    "squeeze",
    "flatten",
    "unflatten",
    "clone",
}
LAYOUT |= {"dropout", "to", "movedim", "expand"}


Norm = nn.LayerNorm | nn.GroupNorm


class _FollowNorms(TorchFunctionMode):
    """Marks tensors that are a norm's output up to layout, and strikes out norms that anything but a layer reads."""

    def __init__(self) -> None:
        self.source: dict[int, tuple[Tensor, str]] = {}
        self.spoiled: set[str] = set()
        self.inside_layer = 0

    def mark(self, tensor: Tensor, norm: str) -> None:
        # The tensor is kept alive with its mark, so that its id stays its own.
        self.source[id(tensor)] = (tensor, norm)

    def norm_of(self, value: Any) -> str | None:
        return self.source[id(value)][1] if id(value) in self.source else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operands = [*args, *(kwargs or {}).values()]
        norms = {norm for value in operands if (norm := self.norm_of(value)) is not None}
        if self.inside_layer or not norms or not isinstance(result, Tensor):
            if norms and not self.inside_layer and isinstance(result, tuple | list):
                self.spoiled |= {n for n in norms if any(isinstance(r, Tensor) for r in result)}
            return result
        if getattr(func, "__name__", "") in LAYOUT:
            self.mark(result, norms.pop())
        else:
            self.spoiled |= norms
        return result


@torch.no_grad()
def absorbing_norms(denoiser: nn.Module, example: Mapping[str, Any]) -> dict[str, list[str]]:
    """Norm name → the weighted layers that read its output, for norms that nothing else reads.

    Args:
        denoiser: any model; LayerNorm and GroupNorm with a learned affine are considered.
        example: one (small) call of its forward.
    """
    norms = {n: m for n, m in denoiser.named_modules() if isinstance(m, Norm)}
    norms = {n: m for n, m in norms.items() if m.weight is not None and m.bias is not None}
    layers, mode = weighted_layers(denoiser), _FollowNorms()
    with _readers(norms, layers, mode) as found, mode:
        denoiser(**example)
    return {
        norm: readers
        for norm, readers in found.items()
        if readers and norm not in mode.spoiled and _same_channels(norms[norm], [layers[r] for r in readers])
    }


@contextmanager
def _readers(
    norms: Mapping[str, Norm], layers: Mapping[str, Weighted], mode: _FollowNorms
) -> Iterator[dict[str, list[str]]]:
    """While it lasts, every norm that is called gets an entry: the layers whose input is its output."""
    readers: dict[str, list[str]] = {}

    def after_norm(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        mode.mark(output, name)
        readers.setdefault(name, [])

    def before_layer(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        norm = mode.norm_of(args[0] if args else kwargs["input"])
        if norm is not None:
            readers[norm].append(name)
        mode.inside_layer += 1

    def after_layer(module: nn.Module, args: Any, output: Tensor) -> None:
        mode.inside_layer -= 1

    with ExitStack() as stack:
        for name, norm in norms.items():
            stack.callback(norm.register_forward_hook(partial(after_norm, name)).remove)
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(partial(before_layer, name), with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(after_layer).remove)
        yield readers


def _same_channels(norm: Norm, layers: list[Weighted]) -> bool:
    channels = [layer.weight.shape[1] * num_groups(layer) for layer in layers]
    return all(c == norm.weight.numel() for c in channels)
