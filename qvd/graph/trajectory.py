"""What denoisers predict at every step of sampling: on their own path, or on the inputs of another's."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import nn


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
    import torch

    return torch.stack([call.prediction for call in calls])


def teacher_forced(denoiser: nn.Module, calls: Sequence[DenoiserCall]) -> torch.Tensor:
    """float32 (calls, B, …): what `denoiser` predicts from the inputs of another's calls."""
    import torch

    with torch.no_grad():
        return torch.stack([denoiser(*call.args, **call.kwargs)[0].float().cpu() for call in calls])
