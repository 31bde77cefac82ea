"""What a backend is: one way to execute the layers and attentions of a `Quantization`, asked for each by `convert`.

What a quantized layer computes is the same in every one:

    y = Ŵ∗x̂ + b + border∗1,    x̂ = grid(x''),    x'' = (x - s)/c

where ∗ is the layer's own linear map and Ŵ the weight that meets x'' (`effective_weight`); what the spec lacks is left
out, and a bias that it lacks is the layer's own. Where a norm absorbed s and c, the layer reads x'' itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from qvd.graph.attention import OperandAttnProcessor
from qvd.graph.linear_map import ConvMap, LinearMap, linear_map
from qvd.graph.sites import Weighted, channel_dim, num_groups
from qvd.numerics.channels import IDENTITY, ChannelTransform, scale_input_channels
from qvd.options.backend import BackendOptions
from qvd.spec.quantization import LAYER_TENSORS, LayerQuantization, OperandQuantization


class Backend(BackendOptions, ABC):
    """Executes what it does not refuse; the simulation executes the rest, layer by layer.

    Attributes:
        name: how placements and store keys call it, unique among backends.
    """

    name: ClassVar[str]

    @abstractmethod
    def refuses(self, layer: Weighted, spec: LayerQuantization) -> str | None:
        """Why this backend cannot execute a layer with this quantization, in one line; None: it can."""

    @abstractmethod
    def layer(self, layer: Weighted, spec: LayerQuantization) -> ExecutedLayer:
        """What executes a layer that is not refused, on the layer's device and for inputs of its dtype.

        Args:
            layer: the floating-point layer; unchanged.
        """

    def refuses_operands(self, attention: Any, specs: Mapping[str, OperandQuantization]) -> str | None:
        """Why this backend cannot execute an attention with these operands, in one line; None: it can.

        Args:
            attention: as in the floating-point model, its layers included.
            specs: by operand (q, k, probabilities, v); one that is missing, or has no grid, is in floating point.
        """
        return f"{self.name} executes no attention"

    def operands(self, attention: Any, specs: Mapping[str, OperandQuantization]) -> OperandAttnProcessor:
        """The processor that executes an attention that is not refused; arguments as in `refuses_operands`."""
        raise NotImplementedError


class ExecutedLayer(nn.Module):
    """What stands in the place of a quantized layer.

    Its buffers, and so what is saved of it, are the spec's tensors under their own names, on the layer's device; where
    the spec has no bias, `bias` is the layer's own. Whatever else an executor keeps must not be persistent: under the
    floating-point layer's key, a weight that holds the input's step too would load, and compute something else.
    """

    bias: Tensor | None
    border: Tensor | None
    shift: Tensor | None
    scale: Tensor | None

    def __init__(self, layer: Weighted, spec: LayerQuantization) -> None:
        super().__init__()
        self.linear_map: LinearMap = linear_map(layer)
        self.channel_dim = channel_dim(layer)
        self.norm_transforms = spec.absorbed_by is not None
        own = None if layer.bias is None else layer.bias.detach()
        tensors: dict[str, Tensor | None] = {**dict.fromkeys(LAYER_TENSORS), "bias": own, **spec.tensors}
        for name, tensor in tensors.items():
            # Cloned: q, k and v share theirs, which no file may.
            self.register_buffer(name, None if tensor is None else tensor.to(layer.weight.device, copy=True))

    @property
    def transform(self) -> ChannelTransform:
        """What is left to do for x''."""
        return IDENTITY if self.norm_transforms else ChannelTransform(self.shift, self.scale)

    def border_term(self, size: tuple[int, ...], bias: Tensor | None = None) -> Tensor:
        """(out, *output size) float32 border∗1 + bias of a convolution's input of `size`."""
        assert isinstance(self.linear_map, ConvMap) and self.border is not None, "only padded convolutions have one"
        return self.linear_map.on_ones(self.border, size, bias)


def scaled_weight(layer: Weighted, spec: LayerQuantization) -> Tensor:
    """W·c, float32."""
    weight = layer.weight.detach().float()
    return (
        weight if spec.scale is None else scale_input_channels(weight, spec.scale.to(weight.device), num_groups(layer))
    )


def effective_weight(layer: Weighted, spec: LayerQuantization) -> Tensor:
    """Ŵ, float32, on the layer's device: dequantized, or W·c where the weight stays in floating point."""
    if spec.weight is None:
        return scaled_weight(layer, spec)
    return spec.weight.dequantize().to(layer.weight.device)
