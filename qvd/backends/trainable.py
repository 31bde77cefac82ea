"""A quantization executed with gradients: the same numbers as `qvd.backends.simulated`, in float32, to be learned."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qvd.backends.base import Backend, ExecutedLayer, effective_weight, scaled_weight
from qvd.backends.convert import execute_
from qvd.backends.lsq import SplitStepQuantizer, StepQuantizer
from qvd.backends.simulated import SIMULATION
from qvd.graph.attention import OperandAttnProcessor, Operands
from qvd.graph.sites import OPERANDS, Weighted, attention_modules, num_groups
from qvd.numerics.adaround import hard_codes, initial_alpha, rounding_up, soft_codes
from qvd.numerics.channels import scale_input_channels
from qvd.numerics.grids import SplitGrid
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization


class TrainedLayer(ExecutedLayer):
    """y = Ŵ∗(x̂ + v) + offset.

    Bias correction makes the bias a function of the weight, b' = … + Ŵ·v with v = (s - μ)/c (`correction`); adding v
    to the input, inside the padding, says the same, and what is left of bias and border does not depend on Ŵ. Without
    bias correction v = 0.

    Args:
        layer: the floating-point layer.
        quantization: where learning starts.
        correction: (in_channels,) v, or None.
    """

    correction: Tensor | None
    target_weight: Tensor
    initial_weight: Tensor
    step: Tensor
    zero_point: Tensor
    input_quantizer: StepQuantizer | SplitStepQuantizer

    def __init__(self, layer: Weighted, quantization: LayerQuantization, correction: Tensor | None = None) -> None:
        super().__init__(layer, quantization)
        self.quantization, self.layer = quantization, (layer,)  # a tuple: no submodule, its weights are not ours
        if correction is not None:
            correction = correction.float().view(-1, *[1] * (layer.weight.dim() - 2))
        self._keep("correction", correction)
        grid = quantization.grid
        self.input_quantizer = SplitStepQuantizer(grid) if isinstance(grid, SplitGrid) else StepQuantizer(grid)
        self._keep("target_weight", scaled_weight(layer, quantization))
        self._keep("initial_weight", effective_weight(layer, quantization))
        if quantization.weight is not None:
            step, zero_point = quantization.weight.parameters()
            self._keep("step", step)
            self._keep("zero_point", zero_point)
        self.weight = self.initial_weight
        self._offsets: dict[Any, Tensor] = {}
        self.learned_codes: Tensor | None = None  # None: the initial ones
        self.to(layer.weight.device)

    def _keep(self, name: str, tensor: Tensor | None) -> None:
        self.register_buffer(name, tensor, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        x = self.effective_input(input)
        return self.linear_map(x, self.weight) + self.offset(x)

    def effective_input(self, input: Tensor) -> Tensor:
        """x̂ + v of the layer's input."""
        x = self.input_quantizer(self.transform(input, self.channel_dim))
        return x if self.correction is None else x + self.correction

    def offset(self, x: Tensor) -> Tensor:
        """What is added to the output whatever the weight: (out,) or (out, *spatial), once per image size."""
        spatial = () if self.channel_dim == -1 else x.shape[2:]
        if spatial not in self._offsets:
            with torch.no_grad():
                self._offsets[spatial] = self._compute_offset(x, spatial)
        return self._offsets[spatial]

    def _compute_offset(self, x: Tensor, spatial: tuple[int, ...]) -> Tensor:
        blank = torch.zeros(1, x.shape[self.channel_dim], *spatial, device=x.device)
        bias = None if self.bias is None else self.bias.float()
        offset = self.linear_map(blank, self.initial_weight, bias)[0]
        if self.correction is not None:
            offset = offset - self.linear_map(blank + self.correction, self.initial_weight)[0]
        return offset if self.border is None else offset + self.border_term(spatial)

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
            self.weight, self.learned_codes = self.initial_weight, None
            return
        codes = hard_codes(self.target_weight, self.step, self.zero_point, self._weight_bits, alpha)
        self.weight, self.learned_codes = (codes - self.zero_point) * self.step, codes

    @property
    def _weight_bits(self) -> int:
        assert self.quantization.weight is not None, "only quantized weights are rounded"
        return self.quantization.weight.n_bits

    def result(self) -> LayerQuantization:
        """The quantization as learned: codes, what bias and border owe to them, input grid."""
        learned = replace(self.quantization, grid=self.input_quantizer.grid)
        if self.learned_codes is None or learned.weight is None:
            return learned
        weight = replace(learned.weight, codes=self.learned_codes.to(torch.uint8).cpu())
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


class TrainedProcessor(OperandAttnProcessor):
    """Attention on learnable operands.

    Attributes:
        quantizers: those of the quantized operands, by the operands' full names.
    """

    def __init__(self, specs: Mapping[str, OperandQuantization], device: torch.device) -> None:
        of_operand = {operand: StepQuantizer(spec.grid).to(device) for operand, spec in specs.items()}
        functions: list[Any] = [of_operand.get(operand, nn.Identity()) for operand in OPERANDS]
        super().__init__(Operands(*functions))
        self.quantizers = {specs[o].name: quantizer for o, quantizer in of_operand.items() if specs[o].grid}


@dataclass(frozen=True, eq=False)
class Trainable(Backend):
    """What the simulation can execute, learnable, in a unit of a model that the simulation executes.

    Attributes:
        corrections: layer → its `TrainedLayer`'s `correction`.
        frozen: layers that are not to be learned.
    """

    name: ClassVar[str] = "trainable"
    corrections: Mapping[str, Tensor] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()

    def refuses(self, layer: Weighted, spec: LayerQuantization) -> str | None:
        return "frozen" if spec.name in self.frozen else SIMULATION.refuses(layer, spec)

    def layer(self, layer: Weighted, spec: LayerQuantization) -> ExecutedLayer:
        return TrainedLayer(layer, spec, self.corrections.get(spec.name))

    def refuses_operands(self, attention: Any, specs: Mapping[str, OperandQuantization]) -> str | None:
        converted = isinstance(attention.processor, OperandAttnProcessor)
        return None if converted else SIMULATION.refuses_operands(attention, specs)

    def operands(self, attention: Any, specs: Mapping[str, OperandQuantization]) -> OperandAttnProcessor:
        return TrainedProcessor(specs, next(chain(attention.parameters(), attention.buffers())).device)


class TrainedUnit:
    """A learnable float32 copy of a converted model's unit: its quantized layers and attention operands by name."""

    def __init__(
        self,
        model: nn.Module,
        unit: str,
        originals: Mapping[str, Weighted],
        quantization: Quantization,
        backend: Trainable,
    ) -> None:
        part = copy.deepcopy(model.get_submodule(unit))
        executed, _ = execute_(part, quantization, backend, originals, unit)
        self.module = executed.float()
        layers = (module for module in self.module.modules() if isinstance(module, TrainedLayer))
        self.layers = {layer.quantization.name: layer for layer in layers}
        self.operands: dict[str, StepQuantizer] = {}
        for attention in attention_modules(self.module).values():
            if isinstance(attention.processor, TrainedProcessor):
                self.operands |= attention.processor.quantizers

    @property
    def rounded_layers(self) -> list[TrainedLayer]:
        """The layers whose weight is quantized."""
        return [layer for layer in self.layers.values() if layer.quantization.weight is not None]

    @property
    def step_quantizers(self) -> list[StepQuantizer]:
        """Every activation quantizer whose scale can be learned."""
        quantizers = [q for layer in self.layers.values() for q in layer.modules() if isinstance(q, StepQuantizer)]
        return [q for q in [*quantizers, *self.operands.values()] if q.is_learnable]
