"""Running a model up to one of its modules without computing what has been computed before.

Between the units of diffusers' networks there is more than a chain: skip connections, residual sums, reshapes. So the
model's own forward is run, but every finished module answers from disk instead of computing, and the run stops at the
module of interest: what is repeated is only the glue in between. Once all units of a larger module are finished, its
output replaces theirs, so the disk holds what later modules can still ask for and little more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from qvd.algorithms.reconstruction.activations import CachedActivations
from qvd.calibration.calibration_set import CalibrationSet


class _Reached(Exception):
    """The module of interest has been reached: the rest of the forward need not run."""


def execution_order(model: nn.Module, calibration: CalibrationSet) -> list[str]:
    """Names of all modules that one forward calls, in the order in which they are entered.

    A module that is called again, with another entry's worth of data, cannot be replayed and is left out.
    """
    calls: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, args: calls.append(name)

    handles = [module.register_forward_pre_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(**calibration.take([0]))
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in calls if calls.count(name) == 1]


class Replay:
    """One model's way through its units, over chosen calibration entries.

    Args:
        model: left as it was between calls.
        entries: indices into the calibration set; caches number them 0 … len(entries) - 1.
        called: the modules that may be cached, from `execution_order`.
        units: all units, in any order.
        root: where the caches lie.
    """

    def __init__(
        self,
        model: nn.Module,
        calibration: CalibrationSet,
        entries: Sequence[int],
        called: Sequence[str],
        units: Sequence[str],
        root: Path,
        batch_size: int = 16,
    ) -> None:
        self.model, self.calibration, self.entries = model, calibration, entries
        self.called, self.units, self.root = set(called), set(units), root
        self.positions = [
            range(i, min(i + batch_size, len(entries))) for i in range(0, len(entries), batch_size)
        ]  # of each batch in `entries`
        self.device = next(model.parameters()).device
        self.finished: set[str] = set()
        self.cached: dict[str, CachedActivations] = {}
        self.obsolete: list[CachedActivations] = []
        self._sink: CachedActivations | None = None
        self._batch = range(0)

    def inputs(self, unit: str) -> CachedActivations:
        """`(args, kwargs)` of a module whose predecessors are finished."""

        def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            self._keep((args, dict(kwargs)))
            raise _Reached

        handle = self.model.get_submodule(unit).register_forward_pre_hook(before, with_kwargs=True)
        return self._run(f"{unit} inputs", handle)

    def outputs(self, module_name: str) -> CachedActivations:
        """Outputs of a module whose predecessors, or whose parts, are finished; from then on it answers from disk."""

        def after(module: nn.Module, args: tuple, output: Any) -> None:
            self._keep(output)
            raise _Reached

        handle = self.model.get_submodule(module_name).register_forward_hook(after)
        return self._run(module_name, handle)

    def answer(self, unit: str, outputs: CachedActivations) -> None:
        """Let a unit answer from disk, and with it the largest module that it completes."""
        outputs.seal()
        self.cached[unit] = outputs
        self.finished.add(unit)
        for larger in self._completed(unit):
            whole = self.outputs(larger)
            whole.seal()
            inside = [name for name in self.cached if name.startswith(f"{larger}.")]
            self.obsolete += [self.cached.pop(name) for name in inside]
            self.cached[larger] = whole

    def forget(self) -> None:
        """Delete what no later module asks for; only after the unit's record is written, or it could not be resumed."""
        while self.obsolete:
            self.obsolete.pop().remove()

    def resume(self, units: Sequence[str]) -> None:
        """Take in the units that `answer` took in before the process was killed, in the same order; none: start anew.

        Raises:
            DamagedError: activations of one of them are not what was written.
        """
        answering: list[str] = []
        self.finished = set()
        for unit in units:
            self.finished.add(unit)
            answering.append(unit)
            for larger in self._completed(unit):
                answering = [name for name in answering if not name.startswith(f"{larger}.")] + [larger]
        self.cached = {name: CachedActivations.open(self.folder(name)) for name in answering}

    def _completed(self, unit: str) -> list[str]:
        """The largest called module around a unit whose units are all finished, in a list of at most one."""
        parts = unit.split(".")
        for length in range(1, len(parts)):
            larger = ".".join(parts[:length])
            inside = {u for u in self.units if u.startswith(f"{larger}.")}
            if larger in self.called and inside <= self.finished:
                return [larger]
        return []

    def folder(self, module_name: str) -> Path:
        """Where the outputs of a module are cached."""
        return self.root / module_name

    @torch.no_grad()
    def _run(self, name: str, handle: RemovableHandle) -> CachedActivations:
        """Run every batch until a hook calls `_keep` and stops it."""
        self._sink = None
        self._sink_folder = self.folder(name)
        try:
            with self._answering():
                for positions in self.positions:
                    self._batch = positions
                    with suppress(_Reached):
                        self.model(**self.calibration.take([self.entries[i] for i in positions]))
        finally:
            handle.remove()
        assert self._sink is not None, f"{name} is not called"
        return self._sink

    def _keep(self, value: Any) -> None:
        if self._sink is None:
            self._sink = CachedActivations.like(self._sink_folder, len(self.entries), value, len(self._batch))
        self._sink.put(self._batch.start, value)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """While open, modules with a cache return its content for the current batch."""

        def answer(cache: CachedActivations) -> Callable[..., Any]:
            return lambda *args, **kwargs: cache.take(self._batch, self.device)

        modules: list[Any] = [self.model.get_submodule(name) for name in self.cached]
        for module, cache in zip(modules, self.cached.values(), strict=True):
            module.forward = answer(cache)
        try:
            yield
        finally:
            for module in modules:
                del module.forward
