"""A quantized layer that can be learned: the same numbers as `qvd.backends.simulated`, with gradients."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvd.backends.lsq import SplitStepQuantizer, StepQuantizer
from qvd.backends.simulated import QuantizedTemporalConv
from qvd.graph.attention import OperandAttnProcessor, Operands
from qvd.graph.sites import OPERANDS, Weighted, attention_modules, num_groups
from qvd.numerics.adaround import hard_codes, initial_alpha, rounding_up, soft_codes
from qvd.numerics.channels import scale_input_channels
from qvd.numerics.grids import SplitGrid
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization


class TrainedLayer(nn.Module):
    """y = conv(x'' + v, Ŵ) + offset, with x'' the transformed and quantized input.

    Bias correction makes the bias a function of the weight, b' = … + Ŵ·v with v = (s - μ)/c (`correction`); adding v
    to the input, inside the padding, says the same, and what is left of bias and border does not depend on Ŵ. Without
    bias correction v = 0.

    Args:
        layer: the floating-point layer.
        quantization: where learning starts.
        correction: (in_channels,) v, or None.
    """

    shift: Tensor | None
    scale: Tensor | None
    correction: Tensor | None
    bias: Tensor | None
    border: Tensor | None
    target_weight: Tensor
    initial_weight: Tensor
    step: Tensor
    zero_point: Tensor
    input_quantizer: StepQuantizer | SplitStepQuantizer

    def __init__(self, layer: Weighted, quantization: LayerQuantization, correction: Tensor | None = None) -> None:
        super().__init__()
        self.quantization, self.layer = quantization, (layer,)  # a tuple: no submodule, its weights are not ours
        device = layer.weight.device
        spatial = [1] * (layer.weight.dim() - 2)
        shape = (-1, *spatial)

        def buffer(name: str, tensor: Tensor | None) -> None:
            self.register_buffer(name, None if tensor is None else tensor.float().to(device).view(shape))

        absorbed = quantization.absorbed_by is not None
        buffer("shift", None if absorbed else quantization.shift)
        buffer("scale", None if absorbed else quantization.scale)
        buffer("correction", correction)
        grid = quantization.grid
        self.input_quantizer = SplitStepQuantizer(grid) if isinstance(grid, SplitGrid) else StepQuantizer(grid)
        self._set_weight(layer, quantization, device)
        bias = layer.bias if quantization.bias is None else quantization.bias
        self.register_buffer("bias", None if bias is None else bias.detach().float().to(device))
        self.register_buffer("border", None if quantization.border is None else quantization.border.to(device))
        self._offsets: dict[Any, Tensor] = {}
        self.codes: Tensor | None = None  # as learned; None: the initial ones
        self.to(device)

    def _set_weight(self, layer: Weighted, quantization: LayerQuantization, device: torch.device) -> None:
        weight = layer.weight.detach().float()
        if quantization.scale is not None:
            weight = scale_input_channels(weight, quantization.scale.to(device), num_groups(layer))
        self.register_buffer("target_weight", weight)
        if quantization.weight is not None:
            step, zero_point = (t.to(device) for t in quantization.weight.parameters())
            self.register_buffer("step", step)
            self.register_buffer("zero_point", zero_point)
            weight = quantization.weight.dequantize().to(device)
        self.register_buffer("initial_weight", weight)
        self.weight = weight

    def forward(self, input: Tensor) -> Tensor:
        x = self.effective_input(input)
        return self.convolve(x, self.weight, None) + self.offset(x)

    def effective_input(self, input: Tensor) -> Tensor:
        """x'' + v of the layer's input."""
        x = input if self.shift is None else input - self.shift
        x = self.input_quantizer(x if self.scale is None else x / self.scale)
        return x if self.correction is None else x + self.correction

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's linear map with another weight."""
        layer: Any = self.layer[0]
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        if QuantizedTemporalConv.fits(layer):  # as a 2D convolution over frames × pixels, the same sums
            stride, padding, dilation = layer.stride[0], layer.padding[0], layer.dilation[0]
            flat = F.conv2d(
                x.flatten(3), weight.flatten(3), bias, (stride, 1), (padding, 0), (dilation, 1), layer.groups
            )
            return flat.unflatten(3, x.shape[3:])
        function: Any = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
        return function(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    def offset(self, x: Tensor) -> Tensor:
        """What is added to the output whatever the weight: (out,) or (out, *spatial), once per image size."""
        layer: Any = self.layer[0]
        spatial = () if isinstance(layer, nn.Linear) else x.shape[2:]
        if spatial not in self._offsets:
            with torch.no_grad():
                self._offsets[spatial] = self._compute_offset(layer, x, spatial)
        return self._offsets[spatial]

    def _compute_offset(self, layer: Any, x: Tensor, spatial: tuple[int, ...]) -> Tensor:
        blank = torch.zeros(1, x.shape[-1 if not spatial else 1], *spatial, device=x.device)
        offset = self.convolve(blank, self.initial_weight, self.bias)
        if self.correction is not None:
            offset = offset - self.convolve(blank + self.correction, self.initial_weight, None)
        if self.border is not None:
            function: Any = (F.conv1d, F.conv2d, F.conv3d)[len(spatial) - 1]
            image = torch.ones(1, 1, *spatial, device=x.device)
            offset = offset + function(image, self.border, None, layer.stride, layer.padding, layer.dilation)
        return offset[0]

    def start_rounding(self) -> nn.Parameter:
        """Let the rounding be learned; the result is α."""
        self.alpha = nn.Parameter(initial_alpha(self.target_weight, self.step))
        return self.alpha

    def soften(self) -> Tensor:
        """Take the weight from the present α; the result is h, for the regularizer."""
        up = rounding_up(self.alpha)
        codes = soft_codes(self.target_weight, self.step, self.zero_point, self._weight_bits, up)
        self.weight = (codes - self.zero_point) * self.step
        return up

    @torch.no_grad()
    def harden(self, alpha: Tensor | None = None) -> None:
        """Take the weight from α's final rounding; None: the weight that learning started from."""
        if alpha is None:
            self.weight, self.codes = self.initial_weight, None
            return
        self.codes = hard_codes(self.target_weight, self.step, self.zero_point, self._weight_bits, alpha)
        self.weight = (self.codes - self.zero_point) * self.step

    @property
    def _weight_bits(self) -> int:
        assert self.quantization.weight is not None, "only quantized weights are rounded"
        return self.quantization.weight.n_bits

    def result(self) -> LayerQuantization:
        """The quantization as learned: codes, what bias and border owe to them, input grid."""
        learned = replace(self.quantization, grid=self.input_quantizer.grid)
        if self.codes is None or learned.weight is None:
            return learned
        weight = replace(learned.weight, codes=self.codes.to(torch.uint8).cpu())
        bias, border = self._corrected(weight.dequantize())
        return replace(learned, weight=weight, bias=bias, border=border)

    def _corrected(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Bias and border for a weight, whose change enters them through v."""
        bias, border = self.quantization.bias, self.quantization.border
        if self.correction is None:
            return bias, border
        change = weight - self.initial_weight.cpu()
        taps = scale_input_channels(change, self.correction.flatten().cpu(), num_groups(self.layer[0]))
        taps = taps.sum(1, keepdim=True)
        if border is not None:
            return bias, border + taps
        return (None if bias is None else bias + taps.flatten(1).sum(1)), None


class TrainedOperands(nn.Module):
    """The quantizers of one attention's operands, learnable."""

    def __init__(self, operands: Mapping[str, OperandQuantization]) -> None:
        """`operands`: by the last part of their names."""
        super().__init__()
        self.of_operand = {o: StepQuantizer(operands[o].grid) for o in OPERANDS if o in operands}
        self.quantizers = nn.ModuleList(self.of_operand.values())

    def processor(self) -> OperandAttnProcessor:
        """The attention processor that uses them."""
        functions: list[Any] = [self.of_operand.get(o, nn.Identity()) for o in OPERANDS]
        return OperandAttnProcessor(Operands(*functions))


class TrainedUnit:
    """A learnable float32 copy of a converted model's unit: its quantized layers and attention operands by name."""

    def __init__(
        self,
        model: nn.Module,
        unit: str,
        originals: Mapping[str, Weighted],
        quantization: Quantization,
        corrections: Mapping[str, Tensor],
    ) -> None:
        self.module = copy.deepcopy(model.get_submodule(unit)).float()
        inside = {_joined(unit, name): part for name, part in self.module.named_modules()}
        self.layers = {
            name: TrainedLayer(originals[name], layer, corrections.get(name))
            for name, layer in quantization.layers.items()
            if name in inside and not layer.is_float
        }
        self.operands: dict[str, StepQuantizer] = {}
        for inner_name, attn in attention_modules(self.module).items():
            name = _joined(unit, inner_name)
            sites = {o: s for o in OPERANDS if (s := quantization.operands.get(f"{name}.{o}")) is not None}
            if any(site.grid for site in sites.values()):
                trained = TrainedOperands(sites).to(next(model.parameters()).device)
                attn.processor = trained.processor()
                self.operands |= {sites[o].name: q for o, q in trained.of_operand.items() if sites[o].grid}
        if unit in self.layers:
            self.module = self.layers[unit]
        else:
            replace_modules_(self.module, {id(inside[name]): layer for name, layer in self.layers.items()})

    @property
    def rounded_layers(self) -> list[TrainedLayer]:
        """The layers whose weight is quantized."""
        return [layer for layer in self.layers.values() if layer.quantization.weight is not None]

    @property
    def step_quantizers(self) -> list[StepQuantizer]:
        """Every activation quantizer whose scale can be learned."""
        quantizers = [q for layer in self.layers.values() for q in layer.modules() if isinstance(q, StepQuantizer)]
        return [q for q in [*quantizers, *self.operands.values()] if q.is_learnable]


def _joined(unit: str, name: str) -> str:
    """The full name of a unit's part, "" being the unit itself."""
    return f"{unit}.{name}" if name else unit


def replace_modules_(model: nn.Module, replacements: Mapping[int, nn.Module]) -> None:
    """Put other modules in the place of those with the given ids, under every name that they are registered by."""
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):
            if id(child) in replacements:
                parent._modules[child_name] = replacements[id(child)]
