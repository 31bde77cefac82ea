"""From data to a running model: `convert` puts executions in the place of quantized layers and attentions."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from diffusers.configuration_utils import ConfigMixin
from torch import nn

from qvd.backends.base import Backend
from qvd.backends.simulated import SIMULATION
from qvd.backends.timestep import CurrentTimestep, bind
from qvd.graph.sites import Weighted, attention_modules, weighted_layers
from qvd.numerics.grids import TimestepGrid
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization

QUANT_METHOD = "qvd"
Site = TypeVar("Site", LayerQuantization, OperandQuantization)


@dataclass(frozen=True)
class Placement:
    """Where a quantized layer, or an attention with a quantized operand, runs.

    Attributes:
        name: the layer's or the attention's.
        backend: name of the backend that executes it.
        reason: why that is not the backend that was asked for; None: it is.
    """

    name: str
    backend: str
    reason: str | None = None


@torch.no_grad()
def convert(denoiser: nn.Module, quantization: Quantization, backend: Backend = SIMULATION) -> nn.Module:
    """A deep copy of `denoiser` that executes `quantization`; the original is unchanged.

    What the backend refuses is simulated, layer by layer; `placements` of the result tells.

    Raises:
        ValueError: a layer or attention that cannot even be simulated, by name.
    """
    model: Any = copy.deepcopy(denoiser).eval().requires_grad_(False)
    _fold_norms_(model, quantization.layers)
    bound = _following_timestep(model, quantization)
    _, model.placements = execute_(model, bound, backend, weighted_layers(model))
    if model.placements and isinstance(model, ConfigMixin):
        # Without a quantizer of that name, diffusers refuses to load what is saved of the model.
        model.register_to_config(quantization_config={"quant_method": QUANT_METHOD})
    return model


def placements(converted: nn.Module) -> tuple[Placement, ...]:
    """Where what is quantized of a model that `convert` made runs, attentions first."""
    model: Any = converted
    return model.placements


def execute_(
    module: nn.Module,
    quantization: Quantization,
    backend: Backend,
    originals: Mapping[str, Weighted],
    within: str = "",
) -> tuple[nn.Module, tuple[Placement, ...]]:
    """Let a denoiser, or a part of one, run its quantized layers and attentions on a backend or in simulation.

    Args:
        module: changed in place; its norms must have absorbed what they are to absorb.
        quantization: of the whole denoiser.
        originals: the denoiser's floating-point layers by name, which `module` may hold no longer.
        within: the part's name; "" for the denoiser.

    Returns:
        `module`, or what executes it where it is a layer itself; and who executes what.
    """
    placed = []
    attentions = {_joined(within, name): attention for name, attention in attention_modules(module).items()}
    for name, specs in _quantized_attentions(quantization, within).items():
        attention = attentions[name]
        chosen, place = _choose(name, [(b, b.refuses_operands(attention, specs)) for b in (backend, SIMULATION)])
        attention.processor = chosen.operands(attention, specs)
        placed.append(place)
    executions: dict[str, nn.Module] = {}
    for name, spec in quantization.layers.items():
        if not spec.is_float and _is_within(name, within):
            layer = originals[name]
            chosen, place = _choose(name, [(b, b.refuses(layer, spec)) for b in (backend, SIMULATION)])
            executions[name.removeprefix(within).removeprefix(".")] = chosen.layer(layer, spec)
            placed.append(place)
    return replace_modules_(module, executions), tuple(placed)


def _choose(name: str, answers: Sequence[tuple[Backend, str | None]]) -> tuple[Backend, Placement]:
    """The first backend that does not refuse; the first of all is the one that was asked for."""
    for backend, refusal in answers:
        if refusal is None:
            return backend, Placement(name, backend.name, answers[0][1])
    raise ValueError(f"{name}: {answers[-1][1]}")


def _quantized_attentions(quantization: Quantization, within: str) -> dict[str, dict[str, OperandQuantization]]:
    """Attention → its operands, of the attentions with a quantized one."""
    found: dict[str, dict[str, OperandQuantization]] = defaultdict(dict)
    for site, spec in quantization.operands.items():
        attention, _, operand = site.rpartition(".")
        if _is_within(attention, within):
            found[attention][operand] = spec
    return {name: specs for name, specs in found.items() if any(spec.grid for spec in specs.values())}


def _is_within(name: str, part: str) -> bool:
    return part in ("", name) or name.startswith(f"{part}.")


def _joined(part: str, name: str) -> str:
    """The full name of what is called `name` within a part."""
    return ".".join(filter(None, [part, name]))


def replace_modules_(model: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Put other modules in the place of those with the given names; the result is `model`, or what replaces "".

    By identity, not by name: diffusers registers some layers under two names (Downsample2D.conv, .Conv2d_0).
    """
    by_id = {id(model.get_submodule(name)): module for name, module in replacements.items()}
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):
            if id(child) in by_id:
                parent._modules[child_name] = by_id[id(child)]
    return by_id.get(id(model), model)


def _fold_norms_(model: nn.Module, layers: Mapping[str, LayerQuantization]) -> None:
    """Make each absorbing norm yield x'' = (x - s)/c: γ/c and (β - s)/c. Its consumers share s and c."""
    for norm_name, layer in {layer.absorbed_by: layer for layer in layers.values()}.items():
        if norm_name is None:
            continue
        norm: Any = model.get_submodule(norm_name)
        weight, bias = norm.weight.float(), norm.bias.float()
        if layer.shift is not None:
            bias = bias - layer.shift.to(bias.device)
        if layer.scale is not None:
            scale = layer.scale.to(weight.device)
            weight, bias = weight / scale, bias / scale
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)


def _following_timestep(model: nn.Module, quantization: Quantization) -> Quantization:
    """The quantization for a model that notes its timestep at each call, where a grid depends on it."""
    grids = [s.grid for s in quantization.layers.values()] + [s.grid for s in quantization.operands.values()]
    if not any(isinstance(grid, TimestepGrid) for grid in grids):
        return quantization
    current = CurrentTimestep(model)
    model.register_forward_pre_hook(current, with_kwargs=True)

    def bound(sites: Mapping[str, Site]) -> dict[str, Site]:
        return {name: replace(site, grid=bind(site.grid, current)) for name, site in sites.items()}

    return replace(quantization, layers=bound(quantization.layers), operands=bound(quantization.operands))
