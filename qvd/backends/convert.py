"""From data to a running model: `convert` puts wrappers in the place of quantized layers and attention processors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qvd.backends.simulated import ActivationQuantizer, execution
from qvd.backends.timestep import CurrentTimestep, bind
from qvd.graph.attention import Operand, OperandAttnProcessor, Operands, check_processor
from qvd.graph.sites import OPERANDS, attention_modules, weighted_layers
from qvd.numerics.grids import InputGrid, TimestepGrid
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization

Site = TypeVar("Site", LayerQuantization, OperandQuantization)


@torch.no_grad()
def convert(denoiser: nn.Module, quantization: Quantization) -> nn.Module:
    """A deep copy of `denoiser` that executes `quantization` in simulation; the original is unchanged."""
    model = copy.deepcopy(denoiser).eval().requires_grad_(False)
    parameter = next(model.parameters())
    device, dtype = parameter.device, parameter.dtype
    _fold_norms(model, quantization.layers)
    originals = weighted_layers(model)
    current = _follow_timestep_(model, quantization)
    wrappers = {
        id(originals[name]): execution(originals[name], _bound(layer, current)).to(device)
        for name, layer in quantization.layers.items()
        if not layer.is_float
    }
    # By identity, not by name: diffusers registers some layers under two names (Downsample2D.conv, .Conv2d_0).
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):
            if id(child) in wrappers:
                parent._modules[child_name] = wrappers[id(child)]
    for name, attn in attention_modules(model).items():
        grids = {
            o: _bound(s, current).grid for o in OPERANDS if (s := quantization.operands.get(f"{name}.{o}")) is not None
        }
        if any(grids.values()):
            check_processor(name, attn)
            attn.processor = OperandAttnProcessor(quantized_operands(**grids, dtype=dtype))
    return model


def _fold_norms(model: nn.Module, layers: Mapping[str, LayerQuantization]) -> None:
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


def _follow_timestep_(model: nn.Module, quantization: Quantization) -> CurrentTimestep | None:
    """Let the model note its timestep at each call, where a grid depends on it."""
    grids = [s.grid for s in quantization.layers.values()] + [s.grid for s in quantization.operands.values()]
    if not any(isinstance(grid, TimestepGrid) for grid in grids):
        return None
    current = CurrentTimestep(model)
    model.register_forward_pre_hook(current, with_kwargs=True)
    return current


def _bound(site: Site, current: CurrentTimestep | None) -> Site:
    return site if current is None else replace(site, grid=bind(site.grid, current))


def quantized_operands(
    q: InputGrid | None,
    k: InputGrid | None,
    probabilities: InputGrid | None,
    v: InputGrid | None,
    dtype: torch.dtype = torch.float32,
) -> Operands:
    """Attention operands as centred codes, their scales handed to the matmuls; None leaves an operand as it is."""
    (q_step, q_scale), (k_step, k_scale), (p_step, p_scale), (v_step, v_scale) = (
        _operand(grid, dtype) for grid in (q, k, probabilities, v)
    )
    return Operands(q_step, k_step, p_step, v_step, query_key_scale=q_scale * k_scale, output_scale=p_scale * v_scale)


def _operand(grid: InputGrid | None, dtype: torch.dtype) -> tuple[Operand, float]:
    """The quantize step of an operand, and the factor that turns its result back into values."""
    if grid is None:
        return _unchanged, 1.0
    quantizer = ActivationQuantizer(grid, dtype=dtype)
    return quantizer, quantizer.output_scale


def _unchanged(x: Tensor) -> Tensor:
    return x
