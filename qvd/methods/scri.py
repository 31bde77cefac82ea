"""SCRI, Scattered Channel Range Integration (QVD, arXiv 2407.11585): per-channel shift and scale of activations.

Rebuilt from public sources. s_c = (max_c + min_c)/2; then c_j = max(1, max_j/τ, -min_j/τ) on the shifted ranges, τ
swept from max|x'| (no scaling) to the mean of the channels' |max|. Each candidate is judged by the output error of the
layer with quantized weights and inputs, on captured inputs. Layers behind one norm (q, k, v) share shift and scale; the
paper judges them by the attention's output, we by the sum of their relative output errors, which needs no sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from qvd.quant.grids import AffineGrid
    from qvd.quant.layerwise import ChannelTransform, LayerSettings
    from qvd.quant.observers import SiteRange
    from qvd.quant.quantization import LayerQuantization, Notes
    from qvd.quant.rules import SiteBits
    from qvd.quant.sites import Weighted

SAMPLE_BINS = 1024
COARSE_CANDIDATES = 16
FINALISTS = 2


class ScriMode(Enum):
    """`guarded`: identity competes with shift and scale (default). `paper`: always shift, τ searched.

    `shift`: always shift, never scale. `scale`: never shift, τ searched from no scaling on. `off`: identity.
    """

    guarded = "guarded"
    paper = "paper"
    shift = "shift"
    scale = "scale"
    off = "off"


@dataclass(frozen=True)
class ScriSite:
    """One layer as SCRI sees it.

    Attributes:
        rows: (n, in_channels, taps) captured receptive fields, NaN on padding (`qvd.quant.capture.input_rows`).
    """

    name: str
    layer: Weighted
    bits: SiteBits
    record: SiteRange
    rows: Tensor
    settings: LayerSettings

    @cached_property
    def identity_grid(self) -> AffineGrid:
        """The grid of the untransformed input, from the streamed histogram."""
        from qvd.quant.layerwise import activation_grid

        assert self.bits.activation is not None, "SCRI sites have quantized inputs"
        return activation_grid(self.record, self.bits.activation, self.settings)

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


@dataclass(frozen=True)
class ScriResult:
    """A group's transform, each member's grid, and the group's objective with and without the transform."""

    transform: ChannelTransform
    grids: dict[str, AffineGrid]
    error: float
    identity_error: float


def search(sites: Sequence[ScriSite], mode: ScriMode, tau_candidates: int) -> ScriResult:
    """Choose one shift and scale for layers that read the same tensor.

    A first round ranks all candidates with min-max weights and coarsely searched input ranges; the best two and the
    identity are then judged exactly as they will be quantized. `ScriResult.error` is the sum over the sites of
    ‖Y - Ŷ‖²/‖Y‖² on the captured rows.
    """
    from qvd.quant.layerwise import IDENTITY

    def error(transform: ChannelTransform, coarse: bool) -> float:
        return sum(output_error(site, transform, coarse) for site in sites)

    candidates = candidate_transforms(sites[0].record, mode, tau_candidates)
    finalists = sorted(candidates, key=lambda t: error(t, coarse=True))[:FINALISTS]
    errors = [(error(t, coarse=False), t) for t in finalists]
    identity_error = error(IDENTITY, coarse=False)
    if mode in (ScriMode.guarded, ScriMode.off):
        errors.insert(0, (identity_error, IDENTITY))
    best_error, best = min(errors, key=lambda e: e[0])
    grids = {site.name: input_grid(site, best) for site in sites}
    return ScriResult(best, grids, best_error, identity_error)


def candidate_transforms(record: SiteRange, mode: ScriMode, tau_candidates: int) -> list[ChannelTransform]:
    """Every transform of a mode except the identity of `guarded` (which `search` adds itself)."""
    import torch

    from qvd.quant.layerwise import ChannelTransform

    centre = (record.channel_max + record.channel_min) / 2
    offered: dict[ScriMode, list[Tensor | None]] = {
        ScriMode.guarded: [None, centre],
        ScriMode.paper: [centre],
        ScriMode.shift: [centre],
        ScriMode.scale: [None],
        ScriMode.off: [],
    }
    candidates = []
    for shift in offered[mode]:
        low, high = (b if shift is None else b - shift for b in (record.channel_min, record.channel_max))
        extent = torch.maximum(high, -low)
        largest, mean = extent.max().item(), extent.mean().item()
        candidates.append(ChannelTransform(shift))
        if mode is ScriMode.shift or not largest > mean > 0:
            continue
        for tau in torch.linspace(largest, mean, tau_candidates + 1)[1:]:
            candidates.append(ChannelTransform(shift, (extent / tau).clamp(min=1)))
    return candidates


def input_grid(site: ScriSite, transform: ChannelTransform, coarse: bool = False) -> AffineGrid:
    """The affine grid of x''.

    With a transform, the range is the exact one of the streamed channel extremes, and the density within it that of the
    captured rows.
    """
    import torch

    from qvd.quant.grids import AffineGrid
    from qvd.quant.observers import bin_counts
    from qvd.quant.range_search import NUM_CANDIDATES, histogram_parameters

    if transform.is_identity:
        return site.identity_grid
    low = transform(site.record.channel_min, 0).min().item()
    high = transform(site.record.channel_max, 0).max().item()
    x = transform(site.inputs, 1)
    if not site.valid.all():
        x = x.masked_fill(~site.valid, -torch.inf)
    counts = bin_counts(x, SAMPLE_BINS, low, high)
    n_bits, settings = site.identity_grid.n_bits, site.settings
    num_candidates = COARSE_CANDIDATES if coarse else NUM_CANDIDATES
    scale, zero_point = histogram_parameters(
        counts, low, high, n_bits, settings.activation_range, p_norm=settings.p_norm, num_candidates=num_candidates
    )
    return AffineGrid(n_bits, scale, zero_point)


def output_error(site: ScriSite, transform: ChannelTransform, coarse: bool) -> float:
    """‖Y - Ŷ‖²/‖Y‖² of the quantized layer on its captured rows; `coarse` takes cheaper ranges."""
    from qvd.quant.layerwise import correction_taps, folded_weight
    from qvd.quant.quantization import quantize_weight
    from qvd.quant.rules import RangeMethod

    grid = input_grid(site, transform, coarse)
    settings = site.settings
    folded, quantized = folded_weight(site.layer, transform), None
    if site.bits.weight is not None:
        weight_range = RangeMethod.minmax if coarse else settings.weight_range
        quantized = quantize_weight(folded, site.bits.weight, weight_range, p_norm=settings.p_norm)
        folded = quantized.dequantize()
    x = grid(transform(site.inputs, 1)).mul_(site.valid)
    output = x.flatten(1) @ folded.flatten(1).T
    mean = site.record.channel_mean
    taps = correction_taps(site.layer, quantized, transform, mean, settings.bias_correction)
    if taps is not None:
        output += site.valid[:, 0].float() @ taps.T
    return ((output - site.target).square().sum() / site.target.square().sum().clamp(min=1e-30)).item()


def coverage(site: ScriSite, transform: ChannelTransform, grid: AffineGrid) -> float:
    """Mean over channels of (distinct levels that the channel uses on the captured rows)/2^b."""
    import torch

    codes = grid.codes(transform(site.inputs, 1)).movedim(1, 0).flatten(1)
    valid = site.valid.expand_as(site.inputs).movedim(1, 0).flatten(1)
    used = torch.zeros(len(codes), grid.num_levels + 1, dtype=torch.bool)
    used.scatter_(1, torch.where(valid, codes, grid.num_levels), True)
    return used[:, :-1].float().mean().item()


def integrate(
    sites: Sequence[ScriSite], norm: str | None, mode: ScriMode, tau_candidates: int
) -> dict[str, LayerQuantization]:
    """Search a group's transform and quantize its layers with it; `norm` absorbs it where there is one."""
    from qvd.quant.layerwise import IDENTITY, quantize_layer

    found = search(sites, mode, tau_candidates)
    layers = {}
    for site in sites:
        grid = found.grids[site.name]
        notes: Notes = {
            "shift": str(found.transform.shift is not None),
            "max_scale": 1.0 if found.transform.scale is None else found.transform.scale.max().item(),
            "scri_error_identity": found.identity_error,
            "scri_error": found.error,
            "coverage_before": coverage(site, IDENTITY, site.identity_grid),
            "coverage": coverage(site, found.transform, grid),
        }
        absorbed_by = None if found.transform.is_identity else norm
        layers[site.name] = quantize_layer(
            site.name, site.layer, site.bits, site.record, site.settings, found.transform, grid, absorbed_by, notes
        )
    return layers
