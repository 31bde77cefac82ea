"""The calibration set: the denoiser's own inputs while the FP pipeline samples, captured once, streamed from disk."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qvd.calibration.plan import steps_of_samples
from qvd.models.sampling import sample_batch

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from diffusers import DiffusionPipeline

    from qvd.calibration.plan import CalibrationPlan
    from qvd.models.base import ModelAdapter


class CalibrationSet:
    """Entries of denoiser calls, read only when they are asked for.

    An entry is one row of a call's batch; the conditional and the unconditional half of classifier-free guidance are
    two entries. An argument may hold several consecutive rows per entry (AnimateDiff's text, one row per frame).
    Floating tensors come out as float32, except arguments with one number per entry (timesteps): those, and integers,
    keep their own dtype.
    """

    def __init__(self, parts: Sequence[TensorPart | FilePart], device: str | torch.device = "cpu") -> None:
        import torch

        self._parts, self.device = list(parts), torch.device(device)
        self._ends = torch.tensor([part.num_entries for part in parts]).cumsum(0)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> CalibrationSet:
        """A set in memory, on the device of its tensors: forward argument → (entries, …)."""
        return cls([TensorPart(tensors)], next(iter(tensors.values())).device)

    @classmethod
    def from_files(cls, paths: Iterable[Path], device: str | torch.device = "cpu") -> CalibrationSet:
        """A set on disk: safetensors files whose tensors are forward arguments, memory-mapped at each read."""
        return cls([FilePart(path) for path in paths], device)

    def __len__(self) -> int:
        """Number of entries."""
        return int(self._ends[-1])

    def batches(self, batch_size: int) -> Batches:
        """The set in order, cut into calls of at most `batch_size` entries; each is read when it is reached."""
        return self.batches_of(range(len(self)), batch_size)

    def batches_of(self, indices: Sequence[int], batch_size: int) -> Batches:
        """The entries `indices`, in that order, cut and read in the same way."""
        return Batches(self, [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)])

    def by_timestep(self) -> dict[float, list[int]]:
        """Timestep → its entries, the largest timestep (that of the most noise) first."""
        import torch

        timesteps = torch.cat([part.column("timestep") for part in self._parts])
        found = timesteps.unique().tolist()
        return {float(t): (timesteps == t).nonzero().flatten().tolist() for t in reversed(found)}

    def take(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """One call made of the entries `indices`, in that order: forward argument → (len(indices)·rows, …)."""
        import torch

        index = torch.as_tensor(indices)
        part_of = torch.bucketize(index, self._ends, right=True)
        touched = part_of.unique().tolist()
        pieces = [self._read(number, index[part_of == number]) for number in touched]
        joined = concatenate(pieces)
        as_asked = part_of.argsort(stable=True).argsort()
        return {name: self._loaded(tensor[as_asked]) for name, tensor in joined.items()}

    def _read(self, number: int, index: torch.Tensor) -> dict[str, torch.Tensor]:
        part = self._parts[number]
        return part.entries(index - int(self._ends[number]) + part.num_entries)

    def _loaded(self, entries: torch.Tensor) -> torch.Tensor:
        """(entries, rows, …) as the denoiser takes it."""
        rows = entries.flatten(0, 1).to(self.device)
        return rows.float() if rows.is_floating_point() and rows.ndim > 1 else rows


class Batches(Sequence):
    """Calls of given entries of a calibration set, each read anew whenever it is asked for."""

    def __init__(self, calibration: CalibrationSet, groups: Sequence[Sequence[int]]) -> None:
        self.calibration, self.groups = calibration, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: Any) -> Any:
        return self.calibration.take(self.groups[number])


class TensorPart:
    """Part of a calibration set that lies in memory."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors, self.num_entries = dict(tensors), min(len(tensor) for tensor in tensors.values())

    def entries(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Argument → (len(index), rows per entry, …)."""
        return {name: _by_entry(tensor, self.num_entries)[index] for name, tensor in self.tensors.items()}

    def column(self, name: str) -> torch.Tensor:
        """The whole of one argument."""
        return self.tensors[name].cpu()


class FilePart:
    """Part of a calibration set in one safetensors file; the file is mapped for the time of a read."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self.path = path
        with safe_open(path, "pt") as content:
            self.num_entries = min(content.get_slice(name).get_shape()[0] for name in content.keys())  # noqa: SIM118

    def entries(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Argument → (len(index), rows per entry, …); only these rows are read."""
        from safetensors import safe_open

        with safe_open(self.path, "pt") as content:
            return {n: _by_entry(content.get_tensor(n), self.num_entries)[index] for n in content.keys()}  # noqa: SIM118

    def column(self, name: str) -> torch.Tensor:
        """The whole of one argument."""
        from safetensors import safe_open

        with safe_open(self.path, "pt") as content:
            return content.get_tensor(name).clone()


def _by_entry(tensor: torch.Tensor, num_entries: int) -> torch.Tensor:
    return tensor.unflatten(0, (num_entries, -1))


def concatenate(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Join tensors of the same names along dim 0."""
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


class _Complete(Exception):
    """Everything wanted has been captured: the rest of the sampling loop and the decoder need not run."""


def capture_calibration_batch(
    adapter: ModelAdapter,
    pipeline: DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    num_inference_steps: int,
    plan: CalibrationPlan,
) -> dict[str, torch.Tensor]:
    """Inputs of the FP denoiser along one sampled batch, at the steps that `plan` wants of each sample.

    Returns:
        Tensors by argument name of the denoiser's forward, stacked on dim 0 over steps and samples; with
        classifier-free guidance both the unconditional and the conditional half are in it. Each entry carries the
        timestep that the denoiser was really called with. Floating tensors are bfloat16, except those of one number
        per entry (timesteps), which are exact.
    """
    timesteps = adapter.timesteps(pipeline, num_inference_steps)
    wanted = steps_of_samples(plan, timesteps.tolist(), train_timesteps(pipeline), seed, indices)
    last = max(max(steps) for steps in wanted)
    denoiser = adapter.denoiser(pipeline)
    signature = inspect.signature(denoiser.forward)
    captured: list[dict[str, torch.Tensor]] = []
    step = 0

    def record(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        nonlocal step
        samples = [number for number, steps in enumerate(wanted) for s in steps if s == step]
        if samples:
            captured.append(_entries_of(signature.bind(*args, **kwargs).arguments, samples, len(indices)))
        if step == last:
            raise _Complete
        step += 1

    handle = denoiser.register_forward_pre_hook(record, with_kwargs=True)
    try:
        sample_batch(
            adapter, pipeline, prompts, indices, seed=seed, split="calibration", num_inference_steps=num_inference_steps
        )
    except _Complete:
        pass
    finally:
        handle.remove()
    return concatenate(captured)


def train_timesteps(pipeline: DiffusionPipeline) -> int:
    """T, the length of the diffusion that the model was trained on."""
    return int(pipeline.scheduler.config.num_train_timesteps)


def _entries_of(arguments: dict[str, Any], samples: list[int], num_samples: int) -> dict[str, torch.Tensor]:
    """The entries of `samples` in every tensor argument of one call, which lie `num_samples` apart in each half."""
    import torch

    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    batch = min(len(value) for value in tensors.values() if value.ndim > 1)
    index = torch.tensor([start + s for start in range(0, batch, num_samples) for s in samples])
    result = {}
    for name, value in tensors.items():
        rows = value if value.ndim and len(value) >= batch else value.expand(batch)
        entries = _by_entry(rows, batch)[index.to(value.device)].flatten(0, 1).cpu()
        result[name] = entries.bfloat16() if entries.is_floating_point() and entries.ndim > 1 else entries
    return result
