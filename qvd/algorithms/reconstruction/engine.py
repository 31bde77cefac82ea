"""The reconstruction of a whole denoiser: unit after unit, resumable, each kept only if it improved."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qvd.algorithms.reconstruction.activations import CachedActivations
from qvd.algorithms.reconstruction.block import UnitData, learn_rounding, learn_steps
from qvd.algorithms.reconstruction.gram import Errors, learn_layer
from qvd.algorithms.reconstruction.replay import Replay, execution_order
from qvd.algorithms.reconstruction.unit_store import UnitStore, work_folder
from qvd.backends.convert import convert
from qvd.backends.trainable import Trainable, TrainedUnit
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.sites import num_groups, weighted_layers
from qvd.options.progress import Progress
from qvd.options.reconstruction import AdaRoundSettings, LsqSettings
from qvd.spec.quantization import LayerQuantization, Notes, Quantization
from qvd.store.files import DamagedError

Learner = Callable[[TrainedUnit, UnitData, torch.Generator], Errors | None]


@dataclass(frozen=True)
class Task:
    """What is reconstructed, and on what.

    Attributes:
        denoiser: in floating point; unchanged.
        calibration: the calibration set.
        units: the `blocks` of the denoiser's `Anatomy`.
        checkpoint: where finished units are kept; None: nowhere.
        progress: shows the units going by.
        seed: joins a unit's name in seeding its random numbers, which so depend on no other unit.
        frozen: layers in force as they come in, and not learned.
    """

    denoiser: nn.Module
    calibration: CalibrationSet
    units: Sequence[str]
    checkpoint: UnitStore | None
    progress: Progress
    seed: int = 0
    frozen: frozenset[str] = frozenset()


def reconstruct_rounding(
    task: Task, quantization: Quantization, settings: AdaRoundSettings, ranges: Ranges | None = None
) -> Quantization:
    """AdaRound of every quantized weight: single layers in Gram form, blocks by autograd.

    Inputs come from the quantized model with all earlier units learned, targets from the floating-point model.

    Args:
        quantization: where it starts; whatever it quantizes besides weights is in force while learning.
        ranges: statistics of the layers' inputs, where biases are corrected (`LayerSettings.bias_correction`).
    """
    corrections = {} if ranges is None else bias_corrections(quantization, ranges)
    learn = partial(_learn_unit_rounding, settings)
    return _Pass(task, quantization, "rounding", learn, settings.entries, corrections).run()


def reconstruct_steps(task: Task, quantization: Quantization, settings: LsqSettings) -> Quantization:
    """LSQ of every affine activation scale, unit after unit, weights as they are."""
    learn = partial(_learn_unit_steps, settings)
    return _Pass(task, quantization, "steps", learn, settings.entries, {}).run()


def bias_corrections(quantization: Quantization, ranges: Ranges) -> dict[str, Tensor]:
    """v = (s - μ)/c of every layer with a quantized weight: what a change of Ŵ adds to its corrected bias is Ŵ·v."""
    corrections = {}
    for name, layer in quantization.layers.items():
        if layer.weight is not None:
            v = -ranges[name].channel_mean.float()
            v = v if layer.shift is None else v + layer.shift
            corrections[name] = v if layer.scale is None else v / layer.scale
    return corrections


def _learn_unit_rounding(
    settings: AdaRoundSettings, unit: TrainedUnit, data: UnitData, generator: torch.Generator
) -> Errors | None:
    """A unit that is one ungrouped layer is learned in Gram form, any other one by autograd."""
    layers = unit.rounded_layers
    if not layers:
        return None
    if unit.module is layers[0] and num_groups(layers[0].layer[0]) == 1:
        return learn_layer(layers[0], _single_inputs(data), settings)
    return learn_rounding(unit, data, settings, generator)


def _learn_unit_steps(
    settings: LsqSettings, unit: TrainedUnit, data: UnitData, generator: torch.Generator
) -> Errors | None:
    return learn_steps(unit, data, settings, generator) if unit.step_quantizers else None


def _single_inputs(data: UnitData) -> Any:
    """(input, output) batches of a layer, which takes one tensor."""
    for _, (args, kwargs), target in data.batches():
        yield args[0] if args else kwargs["input"], target


class _Pass:
    """One way through all units: a floating-point and a quantized replay side by side."""

    def __init__(
        self,
        task: Task,
        quantization: Quantization,
        phase: str,
        learn: Learner,
        num_entries: int | None,
        corrections: Mapping[str, Tensor],
    ) -> None:
        self.task, self.quantization, self.phase, self.learn = task, quantization, phase, learn
        self.backend = Trainable(corrections, task.frozen)
        total = len(task.calibration)
        self.entries = torch.linspace(0, total - 1, min(num_entries or total, total)).round().long().tolist()
        self.model = convert(task.denoiser, quantization)
        self.originals = weighted_layers(task.denoiser)
        self.device = next(task.denoiser.parameters()).device

    def run(self) -> Quantization:
        """The quantization with everything learned; finished units are taken from the checkpoint."""
        task, quantization = self.task, self.quantization
        called = execution_order(task.denoiser, task.calibration)
        units = sorted(task.units, key=called.index)
        layers, operands = dict(quantization.layers), dict(quantization.operands)
        with work_folder(task.checkpoint) as store:
            fp, quantized = (
                Replay(model, task.calibration, self.entries, called, units, store.folder(f"{self.phase}-{name}"))
                for name, model in (("fp", task.denoiser), ("quantized", self.model))
            )
            finished = self._resumed(store, units, (fp, quantized))
            for unit in task.progress(units, f"reconstructing {self.phase}"):
                if unit not in finished:
                    part = self._reconstruct(unit, fp, quantized)
                    store.write(self._key(unit), part.to_tensors(), part.metadata)
                    fp.forget()
                    quantized.forget()
                record = store.read(self._key(unit))
                assert record is not None, "a unit that was just written must be readable"
                part = Quantization.from_tensors(*record)
                layers |= part.layers
                operands |= part.operands
        return Quantization(layers, operands, quantization.summary | _summary(layers, self.phase))

    def _resumed(self, store: UnitStore, units: Sequence[str], replays: Sequence[Replay]) -> list[str]:
        """The units that need not be learned again: their records, and the activations behind them, are whole."""
        finished = list(takewhile(lambda unit: store.read(self._key(unit)) is not None, units))
        try:
            for replay in replays:
                replay.resume(finished)
        except DamagedError as error:
            warnings.warn(f"unfinished {self.phase} reconstruction: {error}; it starts anew", stacklevel=2)
            for replay in replays:
                replay.resume([])
            return []
        return finished

    def _key(self, unit: str) -> str:
        return f"{self.phase}/{unit}"

    def _reconstruct(self, unit: str, fp: Replay, quantized: Replay) -> Quantization:
        """Learn one unit, and let both replays answer for it from now on."""
        targets, inputs = fp.outputs(unit), quantized.inputs(unit)
        trained = TrainedUnit(self.model, unit, self.originals, self.quantization, self.backend)
        data = UnitData(inputs, targets, self.device)
        errors = self.learn(trained, data, unit_generator(self._key(unit), self.task.seed))
        fp.answer(unit, targets)
        quantized.answer(unit, _propagate(trained, data, quantized.folder(unit)))
        quantized.obsolete.append(inputs)
        return self._learned(unit, trained, errors)

    def _learned(self, unit: str, trained: TrainedUnit, errors: Errors | None) -> Quantization:
        """The unit's part of the quantization, its errors in its layers' notes."""
        notes: Notes = {}
        if errors is not None:
            kept = "learned" if errors.improved else "initial"
            notes = {
                f"{self.phase}_unit": unit,
                f"{self.phase}_error_before": errors.before,
                f"{self.phase}_error_after": errors.after,
                f"{self.phase}_kept": kept,
            }
        results = {name: layer.result() for name, layer in trained.layers.items()}
        layers = {name: replace(layer, notes=layer.notes | notes) for name, layer in results.items()}
        initial = self.quantization.operands
        operands = {name: replace(initial[name], grid=q.grid) for name, q in trained.operands.items()}
        return Quantization(layers, operands)


@torch.no_grad()
def _propagate(unit: TrainedUnit, data: UnitData, folder: Path) -> CachedActivations:
    """The unit's outputs on its cached inputs, in the model's own type: what the next units see."""
    outputs = data.targets.blank(folder)
    for span, (args, kwargs), _ in data.batches():
        outputs.put(span.start, unit.module(*args, **kwargs))
    return outputs


def unit_generator(name: str, seed: int) -> torch.Generator:
    """Random numbers that depend on a name and a seed alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _summary(layers: Mapping[str, LayerQuantization], phase: str) -> dict[str, float]:
    """Mean unit errors before and after, and the share of units where learning helped."""
    units = {str(n[f"{phase}_unit"]): n for n in (layer.notes for layer in layers.values()) if f"{phase}_unit" in n}
    if not units:
        return {}
    pairs = [(float(n[f"{phase}_error_before"]), float(n[f"{phase}_error_after"])) for n in units.values()]
    return {
        f"{phase}_error_before": sum(before for before, _ in pairs) / len(pairs),
        f"{phase}_error_after": sum(min(pair) for pair in pairs) / len(pairs),
        f"{phase}_units_improved": sum(after < before for before, after in pairs) / len(pairs),
    }
