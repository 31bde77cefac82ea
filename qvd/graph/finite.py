"""NaN and infinity on their way from a denoiser to pictures and ranges: noticed without waiting for the device, then
traced to a step, a sample and a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from qvd.graph.trajectory import Complete


class NotFiniteError(ValueError):
    """NaN or infinity where a number must be.

    Attributes:
        row: the first one of a batch, whose samples repeat with guidance; None: not of a batch.
        step: call of the denoiser, from 0; None: not of a single one.
    """

    def __init__(self, message: str, row: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.row, self.step = row, step


def check_rows(what: str, values: Tensor, step: int | None = None) -> None:
    """Refuse a tensor (rows, …) that is not finite throughout; waits for its device.

    Raises:
        NotFiniteError: with the first such row.
    """
    finite = finite_rows(values)
    if not finite.all():
        raise NotFiniteError(f"{what} is not finite", int((~finite).nonzero()[0]), step)


def finite_rows(values: Tensor) -> Tensor:
    """bool (rows,): which rows of (rows, …) are finite throughout."""
    return values.isfinite().flatten(1).all(1)


@contextmanager
def finite_predictions(denoiser: nn.Module) -> Iterator[None]:
    """Refuse predictions that are not finite, at the end: each call leaves a bool for each row on its device, which
    are read together once.

    Raises:
        NotFiniteError: the first step and row; also in the place of one that was raised later on the way, and where
            sampling was ended by `Complete`.
    """
    finite: list[Tensor] = []

    def note(module: nn.Module, args: tuple, output: Any) -> None:
        finite.append(finite_rows(output[0]))

    handle = denoiser.register_forward_hook(note)
    try:
        yield
    except (Complete, NotFiniteError):
        _check_steps(finite)
        raise
    else:
        _check_steps(finite)
    finally:
        handle.remove()


def _check_steps(finite: list[Tensor]) -> None:
    if finite and not torch.stack([rows.all() for rows in finite]).all():
        step = next(step for step, rows in enumerate(finite) if not rows.all())
        raise NotFiniteError("the denoiser's prediction is not finite", int((~finite[step]).nonzero()[0]), step)


class _Found(Exception):
    """Ends a sampling whose first number that is none has been seen."""


def first_trace(denoiser: nn.Module, sample: Callable[[], object]) -> str | None:
    """Where NaN or infinity is first seen while `sample` calls the denoiser: in one of its inputs or in a layer's
    output; None: nowhere. Waits for the device at every layer."""
    traces: list[str] = []
    signature = inspect.signature(denoiser.forward)

    def found(trace: str) -> None:
        traces.append(trace)
        raise _Found

    def check_inputs(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if _is_not_finite(value):
                found(f"the denoiser's input {name}")

    def check_output(name: str) -> Callable[..., None]:
        def check(module: nn.Module, args: tuple, output: Any) -> None:
            if _is_not_finite(output):
                found(f"the output of {name}")

        return check

    leaves = {name: module for name, module in denoiser.named_modules() if name and not any(module.children())}
    handles = [denoiser.register_forward_pre_hook(check_inputs, with_kwargs=True)]
    handles += [module.register_forward_hook(check_output(name)) for name, module in leaves.items()]
    try:
        with suppress(_Found, Complete, NotFiniteError):
            sample()
    finally:
        for handle in handles:
            handle.remove()
    return traces[0] if traces else None


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())


def wider(dtype: torch.dtype) -> str:
    """What to do about numbers of `dtype` that are none."""
    if dtype is torch.float16:
        return "model.dtype=bfloat16 or float32 has the range that float16 lacks"
    if dtype is torch.bfloat16:
        return "try model.dtype=float32"
    return "float32 is the widest there is: look at the weights, and at the quantization if there is one"
