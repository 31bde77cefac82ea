"""What a quantized denoiser IS, as data: codes, scales, grids, folds. How it runs is `qvd.backends`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from qvd.numerics.affine import dequantize, quantize
from qvd.numerics.grids import InputGrid, grid_from_dict
from qvd.numerics.packing import pack, unpack
from qvd.numerics.range_search import channel_parameters
from qvd.options.rules import RangeMethod

Notes = dict[str, float | str]


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer weight: `codes` uint8 (channels, …); `scale` float32 and `zero_point` uint8, each (channels,).

    With `split`, input channels from there on have a quantizer of their own (Q-Diffusion's shortcut splitting), and
    `scale` and `zero_point` are (channels, 2).
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    n_bits: int
    split: int | None = None

    def parameters(self) -> tuple[Tensor, Tensor]:
        """(scale, zero_point), float32, to broadcast against `codes`."""
        return self._spread(self.scale), self._spread(self.zero_point.float())

    def _spread(self, values: Tensor) -> Tensor:
        trailing = [1] * (self.codes.dim() - 2)
        if self.split is None:
            return values.view(-1, 1, *trailing)
        sizes = torch.tensor([self.split, self.codes.shape[1] - self.split], device=values.device)
        return values.repeat_interleave(sizes, 1).view(*self.codes.shape[:2], *trailing)

    def channels(self, span: slice) -> QuantizedWeight:
        """The weight of some output channels."""
        return replace(self, codes=self.codes[span], scale=self.scale[span], zero_point=self.zero_point[span])

    def dequantize(self) -> Tensor:
        """float32 values, shaped like `codes`."""
        return dequantize(self.codes.float(), *self.parameters())


def quantize_weight(
    weight: Tensor,
    n_bits: int,
    method: RangeMethod,
    *,
    symmetric: bool = False,
    p_norm: float = 2.4,
    split: int | None = None,
    factors: Tensor | None = None,
) -> QuantizedWeight:
    """Round a weight (output channels first) to the nearest level of its per-output-channel affine quantizer.

    Args:
        split: the input channel from which a second quantizer serves.
        factors: candidates of the search other than the published ones.
    """
    parts = [weight] if split is None else [weight[:, :split], weight[:, split:]]
    options: dict[str, Any] = {"symmetric": symmetric, "p_norm": p_norm, "factors": factors}
    found = [channel_parameters(part, n_bits, method, **options) for part in parts]
    scale, zero_point = found[0] if split is None else (torch.stack(both, 1) for both in zip(*found, strict=True))
    quantized = QuantizedWeight(
        torch.empty(weight.shape, dtype=torch.uint8), scale, zero_point.to(torch.uint8), n_bits, split
    )
    codes = quantize(weight.detach().float(), *quantized.parameters(), n_bits)
    return replace(quantized, codes=codes.to(torch.uint8))


@dataclass(frozen=True)
class LayerQuantization:
    """One weighted layer. Everything None: the layer stays in floating point.

    With shift s and scale c (both (in_channels,)) the layer sees x'' = (x - s)/c and its `weight` is that of W·c.

    Attributes:
        rule: what decided the bits.
        weight: integer weight, or None: floating point.
        grid: of the input x'', or None: floating point.
        bias: (out_channels,) the bias that replaces the layer's; None: the layer's own.
        border: (out_channels, 1, *kernel): a kernel whose zero-padded convolution with an image of ones is added to the
            output. It is W·s tap by tap, and so exact where taps fall on the padding.
        absorbed_by: the norm whose affine already yields x''; None: x'' is computed in the quantize step.
    """

    name: str
    kind: str
    rule: str
    weight: QuantizedWeight | None = None
    grid: InputGrid | None = None
    bias: Tensor | None = None
    border: Tensor | None = None
    shift: Tensor | None = None
    scale: Tensor | None = None
    absorbed_by: str | None = None
    notes: Notes = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is stored of the layer, by its name there; codes of at most 4 bits are packed two per byte."""
        named = {f: tensor for f in LAYER_TENSORS if (tensor := getattr(self, f)) is not None}
        if self.weight is not None:
            named["codes"] = pack(self.weight.codes, self.weight.n_bits)
            named["weight_scale"] = self.weight.scale
            named["weight_zero_point"] = self.weight.zero_point
        return {name: tensor.contiguous() for name, tensor in named.items()}

    @property
    def is_float(self) -> bool:
        """Whether the layer is left as it was."""
        return self.weight is None and self.grid is None and self.shift is None and self.scale is None


@dataclass(frozen=True)
class OperandQuantization:
    """One operand of an attention's matmuls; `grid` None: floating point."""

    name: str
    kind: str
    rule: str
    grid: InputGrid | None = None
    notes: Notes = field(default_factory=dict)


LAYER_TENSORS = ("bias", "border", "shift", "scale")


@dataclass(frozen=True)
class Quantization:
    """A whole denoiser: layers and attention operands by name, and the method's own summary numbers."""

    layers: Mapping[str, LayerQuantization]
    operands: Mapping[str, OperandQuantization]
    summary: dict[str, float] = field(default_factory=dict)

    @property
    def map(self) -> list[dict[str, Any]]:
        """The readable quantization map, one record per layer and operand, JSON-ready."""
        return [map_record(site) for sites in (self.layers, self.operands) for site in sites.values()]

    def to_tensors(self) -> dict[str, Tensor]:
        """Flat tensors for safetensors; weights of at most 4 bits are packed two codes per byte."""
        return {
            f"{name}.{field}": tensor for name, layer in self.layers.items() for field, tensor in layer.tensors.items()
        }

    @property
    def metadata(self) -> dict[str, str]:
        """What `to_tensors` leaves out, as safetensors metadata."""
        layers = [
            _common(s) | {"absorbed_by": s.absorbed_by} | ({} if s.weight is None else _weight_record(s.weight))
            for s in self.layers.values()
        ]
        operands = [_common(s) for s in self.operands.values()]
        return {"quantization": json.dumps({"layers": layers, "operands": operands, "summary": self.summary})}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Quantization:
        """The inverse of (`to_tensors`, `metadata`): the converted denoiser's outputs are bit-equal."""
        saved = json.loads(metadata["quantization"])
        layers = {r["name"]: _layer(r, tensors) for r in saved["layers"]}
        operands = {r["name"]: OperandQuantization(**_restored(r)) for r in saved["operands"]}
        return cls(layers, operands, saved["summary"])


def map_record(site: LayerQuantization | OperandQuantization) -> dict[str, Any]:
    """One row of the quantization map; `range` is that of the grid, whose input is the shifted and scaled one.

    Of a grid per step or frame it is the widest, of one per token there is none.
    """
    weight = site.weight if isinstance(site, LayerQuantization) else None
    bounds = site.grid and site.grid.bounds
    record: dict[str, Any] = {
        "layer": site.name,
        "kind": site.kind,
        "weight_bits": weight and weight.n_bits,
        "activation_bits": site.grid and site.grid.n_bits,
        "grid": site.grid and site.grid.form,
        "range": bounds and list(bounds),
        "rule": site.rule,
        "notes": dict(site.notes),
    }
    if isinstance(site, LayerQuantization):
        record["notes"] |= {} if site.absorbed_by is None else {"absorbed_by": site.absorbed_by}
    return record


def _common(site: LayerQuantization | OperandQuantization) -> dict[str, Any]:
    grid = site.grid and site.grid.to_dict()
    return {"name": site.name, "kind": site.kind, "rule": site.rule, "grid": grid, "notes": site.notes}


def _weight_record(weight: QuantizedWeight) -> dict[str, Any]:
    return {"n_bits": weight.n_bits, "shape": list(weight.codes.shape), "split": weight.split}


def _restored(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"grid": record["grid"] and grid_from_dict(record["grid"])}


def _layer(record: dict[str, Any], tensors: Mapping[str, Tensor]) -> LayerQuantization:
    fields = _restored(record)
    name, n_bits, shape, split = (record["name"], *(fields.pop(key, None) for key in ("n_bits", "shape", "split")))
    if n_bits is not None:
        codes = unpack(tensors[f"{name}.codes"], n_bits, shape)
        scale, zero_point = tensors[f"{name}.weight_scale"], tensors[f"{name}.weight_zero_point"]
        fields["weight"] = QuantizedWeight(codes, scale, zero_point, n_bits, split)
    return LayerQuantization(**(fields | {f: tensors.get(f"{name}.{f}") for f in LAYER_TENSORS}))
