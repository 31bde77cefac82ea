"""What SCRI minimizes: the output error of a quantized layer, or of the attention that its outputs feed.

A quantized layer computes what `qvd.backends.base` says, here on captured receptive fields instead of whole inputs: a
search that tries a transform needs neither the codes nor the border of a layer that is never run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from qvd.algorithms.layerwise import LayerSettings, activation_grid, correction_taps, folded_weight, layer_weight
from qvd.algorithms.scri.groups import ScriGroup
from qvd.calibration.observers import SiteRange, bin_counts
from qvd.graph.sites import Weighted
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import AffineGrid
from qvd.numerics.range_search import histogram_parameters, shrink_factors
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import QuantizedWeight, quantize_weight
from qvd.spec.rules import SiteBits

SAMPLE_BINS = 1024
COARSE_CANDIDATES = 16
PIECE = 2**17  # elements worked on at once: they stay in a core's own cache


@dataclass(frozen=True)
class AttentionShape:
    """Heads of a self-attention, and the length of the captured sequences."""

    heads: int
    length: int


@dataclass(frozen=True)
class ScriSite:
    """One layer as SCRI sees it.

    Attributes:
        folds: captured receptive fields by fold of `record` (`qvd.calibration.rows.input_rows`), each (n, in_channels,
            taps), NaN on padding.
        judged: the fold that the layer is judged on, unseen by what is chosen; None: all are seen and judged on.
        attention: for q, k, v of one self-attention, whose rows are whole sequences; None for any other layer.
    """

    name: str
    layer: Weighted
    bits: SiteBits
    record: SiteRange
    folds: list[Tensor]
    settings: LayerSettings
    attention: AttentionShape | None = None
    judged: int | None = None
    weights: list[tuple[Tensor | None, QuantizedWeight]] = field(default_factory=list)  # known `final_weight`s

    def held_out(self, fold: int) -> ScriSite:
        """The layer as one sees it who knows all folds but one, judged on that."""
        return replace(self, record=self.record.without_fold(fold), judged=fold)

    @property
    def role(self) -> str:
        """The layer's own name in its parent, e.g. to_q."""
        return self.name.rpartition(".")[2]

    @cached_property
    def rows(self) -> Tensor:
        """(n, in_channels, taps): what the layer is judged on."""
        return torch.cat(self.folds) if self.judged is None else self.folds[self.judged]

    @cached_property
    def seen(self) -> Tensor:
        """(n, in_channels, taps): what a grid's density is taken from."""
        return (
            self.rows if self.judged is None else torch.cat([f for n, f in enumerate(self.folds) if n != self.judged])
        )

    @cached_property
    def identity_grid(self) -> AffineGrid:
        """The grid of the untransformed input, from the streamed histogram."""
        return activation_grid(self.record, self.n_bits, self.settings)

    @property
    def n_bits(self) -> int:
        """Of the input."""
        assert self.bits.activation is not None, "SCRI sites have quantized inputs"
        return self.bits.activation

    @cached_property
    def valid(self) -> Tensor:
        """(n, 1, taps) bool: where a tap sees data."""
        return ~self.rows[:, :1].isnan()

    @cached_property
    def inputs(self) -> Tensor:
        """`rows` with zeros on the padding."""
        return self.rows.nan_to_num(0.0)

    @cached_property
    def target(self) -> Tensor:
        """(n, out) the floating-point output without bias."""
        return self.inputs.flatten(1) @ self.layer.weight.detach().float().cpu().flatten(1).T

    def final_weight(self, scale: Tensor | None) -> QuantizedWeight | None:
        """The layer's own integer weight behind a channel scale, searched once for each; None: floating point."""
        if self.bits.weight is None:
            return None
        known = [weight for other, weight in self.weights if other is scale]
        if not known:
            folded = folded_weight(self.layer.weight.detach().float().cpu(), ChannelTransform(None, scale))
            known = [layer_weight(folded, self.bits.weight, self.settings)]
            self.weights.append((scale, known[0]))
        return known[0]


def scri_sites(
    group: ScriGroup,
    layers: Mapping[str, Weighted],
    plan: Mapping[str, SiteBits],
    ranges: Mapping[str, SiteRange],
    rows: dict[str, list[Tensor]],
    settings: LayerSettings,
) -> list[ScriSite]:
    """The members of a group with what was captured of them, which is taken out of `rows`."""
    sites = []
    for name in group.members:
        captured, attention = rows.pop(name), None
        if group.heads is not None:  # whole sequences: (n, length, channels)
            attention = AttentionShape(group.heads, captured[0].shape[1])
            captured = [fold.flatten(0, 1)[:, :, None] for fold in captured]
        sites.append(ScriSite(name, layers[name], plan[name], ranges[name], captured, settings, attention))
    return sites


def input_grid(site: ScriSite, transform: ChannelTransform, coarse: bool = False) -> AffineGrid:
    """The affine grid of x''.

    With a transform, the range is the exact one of the streamed channel extremes, and the density within it that of the
    captured rows.
    """
    if transform.is_identity and site.judged is None:
        return site.identity_grid
    low = transform(site.record.channel_min, 0).min().item()
    high = transform(site.record.channel_max, 0).max().item()
    if low == high:  # a constant input: one bin holds it all
        counts = torch.ones(1, dtype=torch.int64)
    else:
        counts = torch.zeros(SAMPLE_BINS, dtype=torch.int64)
        for part in pieces(site.seen):
            x = transform(site.seen[part], 1).nan_to_num(-torch.inf)
            counts += bin_counts(x, SAMPLE_BINS, low, high)
    n_bits, settings = site.n_bits, site.settings
    scale, zero_point = histogram_parameters(
        counts,
        low,
        high,
        n_bits,
        settings.activation_range,
        symmetric=settings.symmetric_on(low, high),
        p_norm=settings.p_norm,
        factors=shrink_factors(COARSE_CANDIDATES) if coarse else settings.factors,
    )
    return AffineGrid(n_bits, scale, zero_point)


def pieces(x: Tensor) -> list[slice]:
    """Spans of dimension 0 of about `PIECE` elements each."""
    size = max(1, PIECE * len(x) // x.numel())
    return [slice(start, start + size) for start in range(0, len(x), size)]


def quantized_output(site: ScriSite, transform: ChannelTransform, coarse: bool) -> Tensor:
    """(n, out): what the quantized layer makes of its captured rows, without bias; `coarse` takes cheaper ranges."""
    grid = input_grid(site, transform, coarse)
    weight, taps = simulated_weight(site, transform, coarse)
    x = torch.empty_like(site.inputs)
    for part in pieces(x):
        torch.mul(grid(transform(site.inputs[part], 1)), site.valid[part], out=x[part])
    output = x.flatten(1) @ weight.T
    if taps is not None:
        output += site.valid[:, 0].float() @ taps.T if site.settings.border_correction else taps.sum(1)
    return output


def simulated_weight(site: ScriSite, transform: ChannelTransform, coarse: bool) -> tuple[Tensor, Tensor | None]:
    """(out, in_channels·taps): the values of the weight that meets x''; and the layer's `correction_taps`."""
    layer_weights, final = site.layer.weight.detach(), None if coarse else site.final_weight(transform.scale)
    values, corrections = torch.empty(len(layer_weights), layer_weights[0].numel()), list[Tensor]()
    for part in pieces(layer_weights):
        original = layer_weights[part].float().cpu()
        folded, quantized = folded_weight(original, transform), None
        if site.bits.weight is not None:
            coarse_weight = (folded, site.bits.weight, RangeMethod.minmax)
            quantized = quantize_weight(*coarse_weight) if final is None else final.channels(part)
            folded = quantized.dequantize()
        values[part] = folded.flatten(1)
        mean = site.record.channel_mean
        taps = correction_taps(original, quantized, transform, mean, site.settings.bias_correction)
        if taps is not None:
            corrections.append(taps)
    return values, torch.cat(corrections) if corrections else None


def relative_error(output: Tensor, target: Tensor) -> float:
    """‖Y - Ŷ‖²/‖Y‖²."""
    return ((output - target).square().sum() / target.square().sum().clamp(min=1e-30)).item()


def output_error(site: ScriSite, transform: ChannelTransform, coarse: bool) -> float:
    """The relative error of the quantized layer on its captured rows."""
    return relative_error(quantized_output(site, transform, coarse), site.target)


def group_error(sites: Sequence[ScriSite], transform: ChannelTransform, coarse: bool) -> float:
    """The relative error of the attention's output for its q, k, v; else the sum of the layers' own."""
    shape = sites[0].attention
    if shape is None:
        return sum(output_error(site, transform, coarse) for site in sites)
    outputs = {site.role: with_bias(site, quantized_output(site, transform, coarse)) for site in sites}
    targets = {site.role: with_bias(site, site.target) for site in sites}
    return relative_error(attend(shape, **outputs), attend(shape, **targets))


def with_bias(site: ScriSite, output: Tensor) -> Tensor:
    bias = site.layer.bias
    return output if bias is None else output + bias.detach().float().cpu()


def attend(shape: AttentionShape, to_q: Tensor, to_k: Tensor, to_v: Tensor) -> Tensor:
    """Softmax attention in floating point on (sequences·length, channels) projections."""
    q, k, v = (
        x.view(-1, shape.length, shape.heads, x.shape[1] // shape.heads).transpose(1, 2) for x in (to_q, to_k, to_v)
    )
    return F.scaled_dot_product_attention(q, k, v)


def coverage(site: ScriSite, transform: ChannelTransform, grid: AffineGrid) -> float:
    """Mean over channels of (distinct levels that the channel uses on the captured rows)/2^b."""
    codes = grid.codes(transform(site.inputs, 1)).movedim(1, 0).flatten(1)
    valid = site.valid.expand_as(site.inputs).movedim(1, 0).flatten(1)
    used = torch.zeros(len(codes), grid.num_levels + 1, dtype=torch.bool)
    used.scatter_(1, torch.where(valid, codes, grid.num_levels), True)
    return used[:, :-1].float().mean().item()
