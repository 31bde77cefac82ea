"""Bytes of a quantized denoiser: as stored, and as the bits alone would take."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from qvd.graph.sites import Weighted, weighted_layers
from qvd.spec.quantization import LayerQuantization, Quantization


def num_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of tensors in their own dtypes; None counts nothing."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def theoretical_bytes(denoiser: nn.Module, quantization: Quantization) -> float:
    """Bytes of the quantized denoiser if every code took exactly its bits; scales 4 bytes, zero points one code each.

    Parameters that stay in floating point (norms, biases, left-out layers) count with their own width.
    """
    total = float(num_bytes(denoiser.parameters()))
    modules = weighted_layers(denoiser)
    for name, layer in quantization.layers.items():
        total += num_bytes([layer.border, layer.shift, layer.scale])
        if (w := layer.weight) is not None:
            total += (w.codes.numel() + w.zero_point.numel()) * w.n_bits / 8 + num_bytes([w.scale])
            total -= num_bytes([modules[name].weight])
    return total


def stored_bytes(quantization: Quantization, denoiser: nn.Module | None = None) -> int:
    """Real bytes of `quantization.to_tensors()`; with `denoiser`, plus its parameters that stay in floating point."""
    total = num_bytes(quantization.to_tensors().values())
    if denoiser is not None:
        modules = weighted_layers(denoiser)
        replaced = [_replaced(modules[name], layer) for name, layer in quantization.layers.items()]
        total += num_bytes(denoiser.parameters()) - sum(num_bytes(r) for r in replaced)
    return total


def _replaced(module: Weighted, layer: LayerQuantization) -> list[Tensor | None]:
    """The parameters of a layer that its quantization stands in for."""
    weight = module.weight if layer.weight is not None else None
    return [weight, module.bias if layer.bias is not None else None]
