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
MIN_FOLDS = 2  # with one sample there is nothing to judge a transform on but what it was made from


@dataclass(frozen=True)
class ScriResult:
    """A group's transform, each member's grid, and the group's objective with and without the transform."""

    transform: ChannelTransform
    grids: dict[str, AffineGrid]
    error: float
    identity_error: float


@dataclass(frozen=True)
class Candidate:
    """A transform as a recipe, to be made from any statistics.

    Attributes:
        shifted: whether channels are shifted to their centres.
        step: τ on its way from max|x'| (0, no scaling) to the mean of the channels' |max| (1).
    """

    shifted: bool
    step: float

    def transform(self, record: SiteRange) -> ChannelTransform:
        """s and c for channels of these extremes; no c where τ cannot move."""
        shift = (record.channel_max + record.channel_min) / 2 if self.shifted else None
        low, high = (b if shift is None else b - shift for b in (record.channel_min, record.channel_max))
        extent = torch.maximum(high, -low)
        largest, mean = extent.max().item(), extent.mean().item()
        if self.step == 0 or not largest > mean > 0:
            return ChannelTransform(shift)
        return ChannelTransform(shift, (extent / (largest + (mean - largest) * self.step)).clamp(min=1))


NOTHING = Candidate(False, 0.0)
SHIFTED: dict[ScriMode, tuple[bool, ...]] = {
    ScriMode.guarded: (False, True),
    ScriMode.paper: (True,),
    ScriMode.shift: (True,),
    ScriMode.scale: (False,),
    ScriMode.off: (),
}


def candidates(mode: ScriMode, tau_candidates: int) -> list[Candidate]:
    """Everything that a mode chooses from; the identity, which `off` and `guarded` have too, is not listed for them."""
    steps = [0.0] if mode is ScriMode.shift else [i / tau_candidates for i in range(tau_candidates + 1)]
    listed = [Candidate(shifted, step) for shifted in SHIFTED[mode] for step in steps]
    return [c for c in listed if c != NOTHING] if mode is ScriMode.guarded else listed


def search(sites: Sequence[ScriSite], mode: ScriMode, tau_candidates: int) -> ScriResult:
    """Choose one shift and scale for layers that read the same tensor.

    A first round ranks all candidates with min-max weights and coarsely searched input ranges; the best two are then
    judged exactly as they will be quantized. `guarded` judges on samples that the candidate was not made from
    (`held_out_choice`), the others on all that was captured.
    """
    record = sites[0].record
    if mode is ScriMode.off or (mode is ScriMode.guarded and len(record.fold_min) < MIN_FOLDS):
        error = group_error(sites, IDENTITY, coarse=False)
        return _result(sites, IDENTITY, error, error)
    if mode is ScriMode.guarded:
        return held_out_choice(sites, candidates(mode, tau_candidates))
    offered = [candidate.transform(record) for candidate in candidates(mode, tau_candidates)]
    finalists = sorted(offered, key=lambda t: group_error(sites, t, coarse=True))[:FINALISTS]
    error, best = min(((group_error(sites, t, coarse=False), t) for t in finalists), key=lambda e: e[0])
    return _result(sites, best, error, group_error(sites, IDENTITY, coarse=False))


def held_out_choice(sites: Sequence[ScriSite], offered: Sequence[Candidate]) -> ScriResult:
    """The candidate with the least error on samples that it has not seen, or the identity.

    Cross-validation over the folds of the calibration set, whole samples each: shift, scale and ranges from the other
    folds, the error on this one. A candidate has to beat the identity by more than the standard error of their
    difference over folds (Breiman et al. 1984, §3.4.3). What is chosen is then made from all folds.
    """
    views = [[site.held_out(fold) for site in sites] for fold in range(len(sites[0].record.fold_min))]

    def errors(candidate: Candidate, coarse: bool) -> Tensor:
        """(folds,)"""
        return torch.tensor([group_error(view, candidate.transform(view[0].record), coarse) for view in views])

    finalists = sorted(offered, key=lambda candidate: errors(candidate, coarse=True).sum().item())[:FINALISTS]
    exact = [errors(candidate, coarse=False) for candidate in finalists]
    best = min(range(len(finalists)), key=lambda number: exact[number].sum().item())
    identity = errors(NOTHING, coarse=False)
    gain = identity - exact[best]
    wins = gain.mean() > gain.std() / len(gain) ** 0.5
    transform = finalists[best].transform(sites[0].record) if wins else IDENTITY
    return _result(sites, transform, (exact[best] if wins else identity).mean().item(), identity.mean().item())


def _result(sites: Sequence[ScriSite], best: ChannelTransform, error: float, identity_error: float) -> ScriResult:
    return ScriResult(best, {site.name: input_grid(site, best) for site in sites}, error, identity_error)


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
