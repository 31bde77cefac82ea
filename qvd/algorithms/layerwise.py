"""From statistics to the quantization of one site: input grid, integer weight, folded and corrected bias."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from qvd.calibration.observers import SiteRange
from qvd.graph.sites import Conv, Weighted, kind, num_groups
from qvd.numerics.channels import IDENTITY, ChannelTransform, scale_input_channels
from qvd.numerics.grids import AffineGrid, Grid
from qvd.numerics.range_search import NUM_CANDIDATES, histogram_parameters, thresholds
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import LayerQuantization, Notes, OperandQuantization, QuantizedWeight, quantize_weight
from qvd.spec.rules import SiteBits


@dataclass(frozen=True)
class LayerSettings:
    """How every layer of a method is quantized; see `qvd.methods.base.PTQMethod` for the first four fields.

    Attributes:
        symmetric_weights, symmetric_activations: symmetric quantizers; inputs that take one sign get a one-sided range.
        num_candidates: 1, 0.99, … of the range search.
        border_correction: a shift is taken back exactly where taps of a convolution fall on its zero padding; false:
            the output's offset is one constant, as if the padding held the shift.
    """

    weight_range: RangeMethod
    activation_range: RangeMethod
    p_norm: float
    bias_correction: bool
    symmetric_weights: bool = False
    symmetric_activations: bool = False
    num_candidates: int = NUM_CANDIDATES
    border_correction: bool = True

    @property
    def factors(self) -> Tensor:
        """The candidates of the range search."""
        return thresholds(self.num_candidates)

    def symmetric_on(self, low: float, high: float) -> bool:
        """Whether an activation over [low, high] gets a symmetric grid."""
        return self.symmetric_activations and low < 0 < high


@dataclass(frozen=True)
class LayerChoice:
    """What a method has chosen for one layer; what it leaves out, the settings decide.

    Attributes:
        transform: of the input, folded into the weight.
        absorbed_by: the norm that applies it; None: the layer's quantize step does.
        grid: of the transformed input.
        split: the input channel from which weights have a quantizer of their own.
        weight: the layer's `layer_weight`, where it is known.
        notes: for the quantization map.
    """

    transform: ChannelTransform = IDENTITY
    absorbed_by: str | None = None
    grid: Grid | None = None
    split: int | None = None
    weight: QuantizedWeight | None = None
    notes: Notes = field(default_factory=dict)


PLAIN = LayerChoice()


def activation_grid(record: SiteRange, n_bits: int, settings: LayerSettings) -> AffineGrid:
    """The static per-tensor affine grid of an activation site."""
    scale, zero_point = histogram_parameters(
        record.histogram,
        record.low,
        record.high,
        n_bits,
        settings.activation_range,
        symmetric=settings.symmetric_on(record.low, record.high),
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
    choice: LayerChoice = PLAIN,
) -> LayerQuantization:
    """The quantization of one weighted layer, from `record`, the statistics of its input."""
    transform, grid, weight = choice.transform, choice.grid, choice.weight
    if grid is None and bits.activation is not None:
        grid = activation_grid(record, bits.activation, settings)
    original, groups = layer.weight.detach().float().cpu(), num_groups(layer)
    if weight is None and bits.weight is not None:
        weight = layer_weight(folded_weight(original, transform, groups), bits.weight, settings, choice.split)
    result = LayerQuantization(
        name,
        kind(layer),
        bits.rule,
        weight,
        grid,
        shift=transform.shift,
        scale=transform.scale,
        absorbed_by=choice.absorbed_by,
        notes=choice.notes,
    )
    taps = correction_taps(original, weight, transform, record.channel_mean, settings.bias_correction, groups)
    if taps is None:
        return result
    if settings.border_correction and not isinstance(layer, nn.Linear) and _is_padded(layer):
        return replace(result, border=taps.view(len(taps), 1, *layer.kernel_size))
    bias = taps.sum(1) if layer.bias is None else layer.bias.detach().float().cpu() + taps.sum(1)
    return replace(result, bias=bias)


def _is_padded(layer: Conv) -> bool:
    return layer.padding == "same" if isinstance(layer.padding, str) else any(layer.padding)


def quantize_operand(site: str, bits: SiteBits, record: SiteRange, settings: LayerSettings) -> OperandQuantization:
    """The quantization of one attention operand; probabilities have their zero point at 0 since their minimum is 0."""
    grid = None if bits.activation is None else activation_grid(record, bits.activation, settings)
    return OperandQuantization(site, f"attention.{site.rsplit('.', 1)[1]}", bits.rule, grid)
