"""SCRI, Scattered Channel Range Integration (QVD, arXiv 2407.11585): per-channel shift and scale of activations.

Rebuilt from public sources. s_c = (max_c + min_c)/2; then c_j = max(1, max_j/τ, -min_j/τ) on the shifted ranges, τ
swept from max|x'| (no scaling) to the mean of the channels' |max|. Each candidate is judged by the output error of the
layer with quantized weights and inputs, on captured inputs (`qvd.algorithms.scri.objective`). Layers that read one
tensor share shift and scale: q, k and v of a self-attention are judged by the attention's output, others by the sum of
their relative output errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qvd.algorithms.layerwise import LayerChoice, quantize_layer
from qvd.algorithms.scri.objective import ScriSite, coverage, group_error, input_grid
from qvd.calibration.observers import SiteRange
from qvd.numerics.channels import IDENTITY, ChannelTransform
from qvd.numerics.grids import AffineGrid
from qvd.options.scri import ScriMode
from qvd.spec.quantization import LayerQuantization, Notes

FINALISTS = 2


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
    identity are then judged exactly as they will be quantized. `ScriResult.error` is `group_error` of the chosen one.
    """

    def error(transform: ChannelTransform, coarse: bool) -> float:
        return group_error(sites, transform, coarse)

    candidates = candidate_transforms(sites[0].record, mode, tau_candidates)
    finalists = sorted(candidates, key=lambda t: error(t, coarse=True))[:FINALISTS]
    identity_error = error(IDENTITY, coarse=False)
    errors = [(identity_error if t.is_identity else error(t, coarse=False), t) for t in finalists]
    if mode in (ScriMode.guarded, ScriMode.off):
        errors.insert(0, (identity_error, IDENTITY))
    best_error, best = min(errors, key=lambda e: e[0])
    grids = {site.name: input_grid(site, best) for site in sites}
    return ScriResult(best, grids, best_error, identity_error)


def candidate_transforms(record: SiteRange, mode: ScriMode, tau_candidates: int) -> list[ChannelTransform]:
    """Every transform of a mode except the identity of `guarded` (which `search` adds itself)."""
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


def integrate(
    sites: Sequence[ScriSite], norm: str | None, mode: ScriMode, tau_candidates: int
) -> dict[str, LayerQuantization]:
    """Search a group's transform and quantize its layers with it; `norm` absorbs it where there is one."""
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
        weight = site.final_weight(found.transform.scale)
        choice = LayerChoice(found.transform, absorbed_by, grid, weight=weight, notes=notes)
        layers[site.name] = quantize_layer(site.name, site.layer, site.bits, site.record, site.settings, choice)
    return layers
