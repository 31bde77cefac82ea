"""A quantization executed in simulation: in floating point, on values that codes can have.

The scale of a uniform input grid is folded into the cached weight, so the quantize step leaves centred integer codes
and costs three elementwise passes over one new tensor, with or without channel shift and scale. Zero padding pads
with the centred code 0, the exact representation of x'' = 0; what a shift adds to it is the layer's border term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qvd.backends.base import Backend, ExecutedLayer, effective_weight
from qvd.graph.attention import Operand, OperandAttnProcessor, Operands, processor_refusal
from qvd.graph.sites import OPERANDS, Weighted
from qvd.numerics.grids import AffineGrid, InputGrid
from qvd.spec.quantization import LayerQuantization, OperandQuantization


class ActivationQuantizer(nn.Module):
    """q = round((x - s)/(c·Δ)) clamped, without z and Δ: the caller multiplies its weight by `output_scale`.

    Non-uniform grids return their values (`output_scale` 1), and in float16 all of them do: it ends below the codes of
    16 bits, and a weight times Δ is soon too small for it. Without a grid, x'' = (x - s)/c itself.
    """

    factor: Tensor | None
    offset: Tensor | None

    def __init__(
        self,
        grid: InputGrid | None,
        shift: Tensor | None = None,
        scale: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        """`shift` and `scale` broadcast against the input, which has `dtype`."""
        super().__init__()
        self.grid = grid
        self.coded = grid if isinstance(grid, AffineGrid) and dtype is not torch.float16 else None
        self.output_scale = 1.0 if self.coded is None else self.coded.scale
        # A Python number where one does: it is the cheapest multiplication, and follows any device.
        self.constant_factor = 1 / self.output_scale
        factor, offset = None, None
        if scale is not None:
            factor = self.constant_factor / scale
        if shift is not None:
            factor = torch.full_like(shift, self.constant_factor) if factor is None else factor
            offset = -shift * factor
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.grid is None and self.factor is None:
            return input
        x = input.float()
        if self.offset is not None and self.factor is not None:
            x = torch.addcmul(self.offset, x, self.factor)
        else:
            x = x * (self.constant_factor if self.factor is None else self.factor)
        if self.coded is not None:
            x.round_().clamp_(self.coded.low_code, self.coded.high_code)
        elif self.grid is not None:
            x = self.grid(x)
        return x.to(input.dtype)


class SimulatedLayer(ExecutedLayer):
    """Quantizer of the input, cached weight and bias.

    The weight is not saved: it holds the input's step too.
    """

    weight: Tensor
    cast_bias: Tensor | None

    def __init__(self, layer: Weighted, spec: LayerQuantization):
        super().__init__(layer, spec)
        shape = (-1, *[1] * (layer.weight.dim() - 2))
        shift, scale = (None if t is None else t.view(shape) for t in (self.transform.shift, self.transform.scale))
        self.input_quantizer = ActivationQuantizer(spec.grid, shift, scale, layer.weight.dtype)
        weight = effective_weight(layer, spec) * self.input_quantizer.output_scale
        self.register_buffer("weight", weight.to(layer.weight), persistent=False)
        bias = None if self.bias is None else self.bias.to(layer.weight)
        self.register_buffer("cast_bias", bias, persistent=False)
        self._border_terms: dict[Any, Tensor] = {}

    def extra_repr(self) -> str:
        """The weight's shape, as torch's layers show theirs."""
        return f"weight={tuple(self.weight.shape)}"

    def forward(self, input: Tensor) -> Tensor:
        codes = self.input_quantizer(input)
        if self.border is None:
            return self.linear_map(codes, self.weight, self.cast_bias)
        return self.linear_map(codes, self.weight).add_(self._offset(codes))

    def _offset(self, codes: Tensor) -> Tensor:
        """bias + border∗1, computed once per image size."""
        key = (codes.shape[2:], codes.device, codes.dtype)
        if key not in self._border_terms:
            bias = None if self.bias is None else self.bias.float()
            self._border_terms[key] = self.border_term(codes.shape[2:], bias).to(codes.dtype)
        return self._border_terms[key]


class Simulation(Backend):
    """Executes everything that a spec can say, and so what other backends refuse."""

    name: ClassVar[str] = "simulated"

    def refuses(self, layer: Weighted, spec: LayerQuantization) -> str | None:
        if isinstance(layer, nn.Linear) or layer.padding_mode == "zeros":
            return None
        return f"padding_mode={layer.padding_mode!r}: only 'zeros' can be quantized"

    def layer(self, layer: Weighted, spec: LayerQuantization) -> ExecutedLayer:
        return SimulatedLayer(layer, spec)

    def refuses_operands(self, attention: Any, specs: Mapping[str, OperandQuantization]) -> str | None:
        return processor_refusal(attention)

    def operands(self, attention: Any, specs: Mapping[str, OperandQuantization]) -> OperandAttnProcessor:
        grids = {operand: specs[operand].grid if operand in specs else None for operand in OPERANDS}
        return OperandAttnProcessor(quantized_operands(**grids, dtype=next(attention.parameters()).dtype))


SIMULATION = Simulation()


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
    quantizer = ActivationQuantizer(grid, dtype=dtype)
    return quantizer, quantizer.output_scale
