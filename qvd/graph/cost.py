"""What one call of a quantized denoiser computes, in bit operations: the cost that both weight and input bits enter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qvd.graph.hooks import attention_operands_to
from qvd.graph.sites import OPERANDS, Weighted, attention_modules, operand_sites, weighted_layers
from qvd.graph.size import stored_bytes, theoretical_bytes
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization

Product = tuple[int, int, int]
"""MACs, and the bits of the two numbers that each of them multiplies."""


def denoiser_costs(denoiser: nn.Module, quantization: Quantization, entry: Mapping[str, Any]) -> dict[str, Any]:
    """`model_bytes` (`stored` and `theoretical`, see `qvd.graph.size`), `macs` and `bops`; arguments as of
    `bit_operations`."""
    size = {
        "stored": stored_bytes(quantization, denoiser),
        "theoretical": round(theoretical_bytes(denoiser, quantization)),
    }
    return {"model_bytes": size, **bit_operations(denoiser, quantization, entry)}


@torch.inference_mode()
def bit_operations(denoiser: nn.Module, quantization: Quantization, entry: Mapping[str, Any]) -> dict[str, int]:
    """BOPs = Σ MACs · weight bits · activation bits (van Baalen et al. 2020, arXiv:2005.07093) of one denoiser call.

    Counted are Linear layers, convolutions (their zero padding counts as data) and the two matmuls of each attention,
    which take the bits of their two operands. What stays in floating point has the width of its parameters' dtype.
    Biases, norms, softmax and the quantize steps are left out.

    Args:
        denoiser: the floating-point model; unchanged.
        quantization: where the bits come from; an empty one gives the cost of the floating-point model itself.
        entry: arguments of the denoiser's forward, e.g. one entry of the calibration set.

    Returns:
        `macs` and `bops` of the call with `entry`.

    Raises:
        TypeError: an attention whose operands cannot be reached, by name.
    """
    layers, macs = weighted_layers(denoiser), dict[str, int]()
    shapes: dict[str, list[torch.Size]] = defaultdict(list)

    def keep_shape(site: str) -> Callable[[Tensor], None]:
        return lambda operand: shapes[site].append(operand.shape)

    sinks = {site: keep_shape(site) for site in operand_sites(denoiser)}
    with _macs_to(layers, macs), attention_operands_to(denoiser, sinks):
        denoiser(**entry)
    products = [_layer_product(layers[name], quantization.layers.get(name), n) for name, n in macs.items()]
    for name, attention in attention_modules(denoiser).items():
        sites = [f"{name}.{operand}" for operand in OPERANDS]
        bits = [_operand_bits(attention, quantization.operands.get(site)) for site in sites]
        products += _attention_products([shapes[site] for site in sites], bits)
    return {"macs": sum(n for n, _, _ in products), "bops": sum(n * a * b for n, a, b in products)}


@contextmanager
def _macs_to(layers: Mapping[str, Weighted], macs: dict[str, int]) -> Iterator[None]:
    """While open, every call of a layer adds its multiply-accumulates to `macs[name]`."""

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(layer: nn.Module, _: Any, output: Tensor) -> None:
            # Each output takes one product with every weight of its channel.
            macs[name] = macs.get(name, 0) + output.numel() * layers[name].weight[0].numel()

        return count

    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_product(layer: Weighted, quantization: LayerQuantization | None, macs: int) -> Product:
    weight, grid = (None, None) if quantization is None else (quantization.weight, quantization.grid)
    width = _float_bits(layer)
    return macs, width if weight is None else weight.n_bits, width if grid is None else grid.n_bits


def _attention_products(shapes: list[list[torch.Size]], bits: list[int]) -> Iterator[Product]:
    """q·kᵀ and probabilities·v of every call of one attention; `shapes` and `bits` in the order of `OPERANDS`."""
    q_bits, k_bits, probability_bits, v_bits = bits
    for q, _, probabilities, v in zip(*shapes, strict=True):
        yield math.prod(probabilities) * q[-1], q_bits, k_bits
        yield math.prod(probabilities) * v[-1], probability_bits, v_bits


def _operand_bits(attention: nn.Module, operand: OperandQuantization | None) -> int:
    return _float_bits(attention) if operand is None or operand.grid is None else operand.grid.n_bits


def _float_bits(module: nn.Module) -> int:
    return next(module.parameters()).element_size() * 8
