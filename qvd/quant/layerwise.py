"""From statistics to the quantization of one site: input grid, integer weight, folded and corrected bias."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qvd.quant.grids import AffineGrid, Grid
from qvd.quant.layers import scale_input_channels
from qvd.quant.observers import SiteRange
from qvd.quant.quantization import LayerQuantization, Notes, OperandQuantization, QuantizedWeight, quantize_weight
from qvd.quant.range_search import NUM_CANDIDATES, histogram_parameters, thresholds
from qvd.quant.rules import RangeMethod, SiteBits
from qvd.quant.sites import Conv, Weighted, kind, num_groups


@dataclass(frozen=True)
class LayerSettings:
    """How every layer of a method is quantized; see `qvd.methods.base.PTQMethod` for the first four fields.

    Attributes:
        symmetric_weights, symmetric_activations: symmetric quantizers; inputs that are never negative get [0, max].
        num_thresholds: candidates 1, 0.99, … of the range search.
    """

    weight_range: RangeMethod
    activation_range: RangeMethod
    p_norm: float
    bias_correction: bool
    symmetric_weights: bool = False
    symmetric_activations: bool = False
    num_thresholds: int = NUM_CANDIDATES

    @property
    def factors(self) -> Tensor:
        """The candidates of the range search."""
        return thresholds(self.num_thresholds)


@dataclass(frozen=True)
class ChannelTransform:
    """x'' = (x - shift)/scale per input channel, each (channels,) float32 or None."""

    shift: Tensor | None = None
    scale: Tensor | None = None

    @property
    def is_identity(self) -> bool:
        return self.shift is None and self.scale is None

    def to(self, device: torch.device) -> ChannelTransform:
        """The same transform for inputs on another device."""
        return ChannelTransform(*(None if t is None else t.to(device) for t in (self.shift, self.scale)))

    def __call__(self, x: Tensor, dim: int) -> Tensor:
        """x'' of an `x` whose channels lie on dimension `dim`."""
        shape = [1] * x.dim()
        shape[dim] = -1
        if self.shift is not None:
            x = x - self.shift.view(shape)
        return x if self.scale is None else x / self.scale.view(shape)


IDENTITY = ChannelTransform()


def activation_grid(record: SiteRange, n_bits: int, settings: LayerSettings) -> AffineGrid:
    """The static per-tensor affine grid of an activation site."""
    scale, zero_point = histogram_parameters(
        record.histogram,
        record.low,
        record.high,
        n_bits,
        settings.activation_range,
        symmetric=settings.symmetric_activations and record.low < 0,
        p_norm=settings.p_norm,
        factors=settings.factors,
    )
    return AffineGrid(n_bits, scale, zero_point)


def folded_weight(weight: Tensor, transform: ChannelTransform, groups: int = 1) -> Tensor:
    """W·c, the weight that meets x''."""
    return weight if transform.scale is None else scale_input_channels(weight, transform.scale, groups)


def layer_weight(folded: Tensor, bits: int, settings: LayerSettings, split: int | None = None) -> QuantizedWeight:
    """The integer weight of a layer; `folded` is its W·c, float32."""
    return quantize_weight(
        folded,
        bits,
        settings.weight_range,
        symmetric=settings.symmetric_weights,
        p_norm=settings.p_norm,
        split=split,
        factors=settings.factors,
    )


def correction_taps(
    original: Tensor,
    weight: QuantizedWeight | None,
    transform: ChannelTransform,
    mean: Tensor,
    bias_correction: bool,
    groups: int = 1,
) -> Tensor | None:
    """What shift and weight rounding add to the output, per output channel and kernel tap; None: nothing.

    The paper folds W·s into the bias. With `bias_correction` it is Ŵ·s + (W - Ŵ)·μ, μ the channel means of x, which
    also takes back the mean of the weight's rounding error (ours). Ŵ stands in the coordinates of x here.

    Args:
        original: W float32, of all output channels or of some.
        weight: the same channels' W·c, quantized.

    Returns:
        (out_channels, taps) float32; taps is 1 for Linear.
    """
    if transform.shift is None and (weight is None or not bias_correction):
        return None
    original = original.reshape(*original.shape[:2], -1)
    shift = torch.zeros(len(mean)) if transform.shift is None else transform.shift
    if weight is None or not bias_correction:
        return _over_channels(original, shift, groups)
    rounded = weight.dequantize()
    if transform.scale is not None:
        rounded = scale_input_channels(rounded, 1 / transform.scale, groups)
    rounded = rounded.reshape(original.shape)
    mean = mean.float()
    return _over_channels(rounded, shift - mean, groups) + _over_channels(original, mean, groups)


def _over_channels(weight: Tensor, vector: Tensor, groups: int) -> Tensor:
    """Σ_c W[o, c, k]·v[c]: (out, in/groups, taps) and (in,) → (out, taps)."""
    return scale_input_channels(weight, vector, groups).sum(1)


def quantize_layer(
    name: str,
    layer: Weighted,
    bits: SiteBits,
    record: SiteRange,
    settings: LayerSettings,
    transform: ChannelTransform = IDENTITY,
    grid: Grid | None = None,
    absorbed_by: str | None = None,
    notes: Notes | None = None,
    split: int | None = None,
    weight: QuantizedWeight | None = None,
) -> LayerQuantization:
    """The quantization of one weighted layer; `grid` replaces the one that the settings would choose from `record`.

    Weights of input channels from `split` on get a quantizer of their own. `weight`: the `layer_weight`, if known.
    """
    if grid is None and bits.activation is not None:
        grid = activation_grid(record, bits.activation, settings)
    original, groups = layer.weight.detach().float().cpu(), num_groups(layer)
    if weight is None and bits.weight is not None:
        weight = layer_weight(folded_weight(original, transform, groups), bits.weight, settings, split)
    result = LayerQuantization(
        name,
        kind(layer),
        bits.rule,
        weight,
        grid,
        shift=transform.shift,
        scale=transform.scale,
        absorbed_by=absorbed_by,
        notes=notes or {},
    )
    taps = correction_taps(original, weight, transform, record.channel_mean, settings.bias_correction, groups)
    if taps is None:
        return result
    if not isinstance(layer, nn.Linear) and _is_padded(layer):
        return replace(result, border=taps.view(len(taps), 1, *layer.kernel_size))
    bias = taps.sum(1) if layer.bias is None else layer.bias.detach().float().cpu() + taps.sum(1)
    return replace(result, bias=bias)


def _is_padded(layer: Conv) -> bool:
    return layer.padding == "same" if isinstance(layer.padding, str) else any(layer.padding)


def quantize_operand(site: str, bits: SiteBits, record: SiteRange, settings: LayerSettings) -> OperandQuantization:
    """The quantization of one attention operand; probabilities have their zero point at 0 since their minimum is 0."""
    grid = None if bits.activation is None else activation_grid(record, bits.activation, settings)
    return OperandQuantization(site, f"attention.{site.rsplit('.', 1)[1]}", bits.rule, grid)
