"""A denoiser's calls during sampling: what it is given, and what it predicts, on its own path or on another's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class DenoiserCall:
    """One call of a denoiser during sampling.

    Attributes:
        args, kwargs: its inputs; what is the same in every call (text) is held once.
        prediction: float32 (B, …) on the CPU; with classifier-free guidance B holds both halves.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    prediction: torch.Tensor


@contextmanager
def recorded_calls(denoiser: nn.Module) -> Iterator[list[DenoiserCall]]:
    """A list that grows by every call of `denoiser` meanwhile."""
    calls: list[DenoiserCall] = []

    def record(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        calls.append(DenoiserCall(args, kwargs, output[0].float().cpu()))

    handle = denoiser.register_forward_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def predictions(calls: Sequence[DenoiserCall]) -> torch.Tensor:
    """float32 (calls, B, …): what was predicted in those calls."""
    return torch.stack([call.prediction for call in calls])


def teacher_forced(denoiser: nn.Module, calls: Sequence[DenoiserCall]) -> torch.Tensor:
    """float32 (calls, B, …): what `denoiser` predicts from the inputs of another's calls."""
    with torch.no_grad():
        return torch.stack([denoiser(*call.args, **call.kwargs)[0].float().cpu() for call in calls])


class Complete(Exception):
    """Everything wanted has been captured: the rest of the sampling loop and the decoder need not run."""


@contextmanager
def calls_to(denoiser: nn.Module, record: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """While open, `record` is called with the arguments, by name, of every call; when it raises `Complete`, what runs
    inside ends there."""
    signature = inspect.signature(denoiser.forward)

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        record(signature.bind(*args, **kwargs).arguments)

    handle = denoiser.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with suppress(Complete):
            yield
    finally:
        handle.remove()


def first_call(denoiser: nn.Module, sample: Callable[[], object]) -> dict[str, Tensor]:
    """Argument → tensor of the first call that `sample` makes of `denoiser`, as a calibration set would hold it."""
    call: dict[str, Tensor] = {}

    def record(arguments: dict[str, Any]) -> None:
        call.update(entries_of(arguments, [0], 1))
        raise Complete

    with calls_to(denoiser, record):
        sample()
    return call


def by_entry(tensor: Tensor, num_entries: int) -> Tensor:
    """(num_entries·rows, …) → (num_entries, rows, …)."""
    return tensor.unflatten(0, (num_entries, -1))


def entries_of(arguments: dict[str, Any], samples: list[int], num_samples: int) -> dict[str, Tensor]:
    """The entries of `samples` in every tensor argument of one call, which lie `num_samples` apart in each half."""
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    batch = min(len(value) for value in tensors.values() if value.ndim > 1)
    index = torch.tensor([start + s for start in range(0, batch, num_samples) for s in samples])
    result = {}
    for name, value in tensors.items():
        rows = value if value.ndim and len(value) >= batch else value.expand(batch)
        entries = by_entry(rows, batch)[index.to(value.device)].flatten(0, 1).cpu()
        result[name] = entries.bfloat16() if entries.is_floating_point() and entries.ndim > 1 else entries
    return result
