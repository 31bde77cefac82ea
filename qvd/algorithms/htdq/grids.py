"""HTDQ, High Temporal Discriminability Quantization (QVD, arXiv 2407.11585): grids for temporal features.

A temporal feature depends on the timestep alone, so the sampler's whole timestep set is enumerated exactly and no video
is needed. Each member of the HiDi-TQ family is searched over its own parameter for the best TD1, ties by MSE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from qvd.algorithms.htdq.tdscore import td1, td_scores
from qvd.numerics.affine import affine_parameters
from qvd.numerics.grids import AffineGrid, Grid, Log2Grid, LogTauGrid, MixedGrid, PowerGrid
from qvd.numerics.range_search import shrink_factors
from qvd.options.htdq import HtdqForm
from qvd.spec.quantization import Notes

MIXED_EDGES = 101
MIXED_FIRST_EDGE = 0.5
LOG_TAU_CANDIDATES = 61
POWERS = [0.1 + 0.02 * i for i in range(45)] + [1.0]


@dataclass(frozen=True)
class TemporalChoice:
    """The selected grid and its two selection criteria."""

    grid: Grid
    td1: float
    mse: float


def select_grid(features: Tensor, n_bits: int, form: HtdqForm = HtdqForm.auto) -> TemporalChoice:
    """The grid of the given form with the best TD1 on `features`, ties by MSE.

    Args:
        features: (n ≥ 2 timesteps, channels), exact, in sampling order.
        n_bits: total bits. `SIGN_FREE` forms, as in the port, do not count their sign and are no candidates of `auto`.
    """
    x = features.double()
    distances = F.pdist(x)
    choices = []
    for grid in candidate_grids(x, n_bits, form):
        quantized = grid(x)
        choices.append(TemporalChoice(grid, td1(distances, quantized), (quantized - x).square().mean().item()))
    return max(choices, key=lambda c: (c.td1, -c.mse))


def candidate_grids(x: Tensor, n_bits: int, form: HtdqForm) -> list[Grid]:
    """Every parametrization of a form that the search looks at."""
    if form is HtdqForm.auto:
        members = [f for f in FORMS if f not in SIGN_FREE]
        return [grid for member in members for grid in FORMS[member](x, n_bits)]
    return FORMS[form](x, n_bits)


def _largest(x: Tensor) -> float:
    """max|x|, or 1 for an all-zero feature, whose grid does not matter."""
    return x.abs().max().item() or 1.0


def _mixed(x: Tensor, n_bits: int) -> list[Grid]:
    """101 edges from 0.5 up to, without, the observed maximum, as in the port; from half of a maximum below 1."""
    maximum = _largest(x)
    edges = np.linspace(min(MIXED_FIRST_EDGE, maximum / 2), maximum, MIXED_EDGES, endpoint=False)
    return [MixedGrid(n_bits, float(edge), maximum) for edge in edges]


def _log2(x: Tensor, n_bits: int) -> list[Grid]:
    return [Log2Grid(n_bits, _largest(x), sign_charged=False)]


def _log2_first(x: Tensor, n_bits: int) -> list[Grid]:
    return [Log2Grid(n_bits, _largest(x.narrow(0, 0, 1)), sign_charged=False, has_zero=True)]


def _log2_charged(x: Tensor, n_bits: int) -> list[Grid]:
    return [Log2Grid(n_bits, _largest(x), sign_charged=True)]


def _log_tau(x: Tensor, n_bits: int) -> list[Grid]:
    """τ such that the smallest magnitude lies 1 … 16 octaves below the largest."""
    last = 2 ** (n_bits - 1) - 1
    return [LogTauGrid(n_bits, _largest(x), last / float(o)) for o in np.linspace(1, 16, LOG_TAU_CANDIDATES)]


def _power(x: Tensor, n_bits: int) -> list[Grid]:
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    grids: list[Grid] = []
    for power in POWERS:
        scale, zero_point = affine_parameters(-((-low) ** power), high**power, n_bits)
        grids.append(PowerGrid(n_bits, scale.item(), zero_point.item(), power))
    return grids


def _uniform(x: Tensor, n_bits: int) -> list[Grid]:
    """The affine grid, min-max and shrunken as in the lp search."""
    factors = shrink_factors().double().to(x.device)
    scales, zero_points = affine_parameters(x.min().clamp(max=0) * factors, x.max().clamp(min=0) * factors, n_bits)
    return [AffineGrid(n_bits, s, z) for s, z in zip(scales.tolist(), zero_points.tolist(), strict=True)]


FORMS: dict[HtdqForm, Callable[[Tensor, int], list[Grid]]] = {
    HtdqForm.uniform: _uniform,
    HtdqForm.power: _power,
    HtdqForm.log_tau: _log_tau,
    HtdqForm.mixed: _mixed,
    HtdqForm.log2_charged: _log2_charged,
    HtdqForm.log2: _log2,
    HtdqForm.log2_first: _log2_first,
}
SIGN_FREE = (HtdqForm.log2, HtdqForm.log2_first)


def report(features: Tensor, grid: Grid) -> Notes:
    """What the quantization map says of a temporal site: TD scores, error, shape of the feature, use of the codes.

    `smallest_level` is 0 where the grid has a zero code; `distinct_codes` is the mean over channels of how many codes a
    channel takes over the timesteps; `skewness` that of all values.
    """
    x = features.double()
    quantized = grid(x)
    scores = td_scores(x, quantized)
    centred = x - x.mean()
    codes = grid.codes(x)
    sorted_codes = codes.sort(dim=0).values
    return {
        "td1": scores.td1,
        "td2": scores.td2,
        "td3": scores.td3,
        "relative_mse": ((quantized - x).square().sum() / x.square().sum().clamp(min=1e-300)).item(),
        "skewness": (centred.pow(3).mean() / centred.square().mean().clamp(min=1e-300) ** 1.5).item(),
        "distinct_codes": 1.0 + (sorted_codes.diff(dim=0) != 0).double().sum(0).mean().item(),
        "smallest_level": grid.codebook().abs().min().item(),
    }


def select_grids(
    features: Mapping[str, Tensor], n_bits: Mapping[str, int | None], form: HtdqForm
) -> dict[str, tuple[Grid, Notes]]:
    """Grid and report of every temporal site with quantized inputs; `*_uniform` notes are those of the uniform member.

    UNets feed one feature to all of their sites, so each distinct (feature, bits) is searched once.
    """
    searched: list[tuple[Tensor, int, tuple[Grid, Notes]]] = []
    result: dict[str, tuple[Grid, Notes]] = {}
    for site, x in features.items():
        bits = n_bits[site]
        if bits is None:
            continue
        known = [r for y, b, r in searched if b == bits and x.shape == y.shape and torch.equal(x, y)]
        if not known:
            uniform = report(x, select_grid(x, bits, HtdqForm.uniform).grid)
            grid = select_grid(x, bits, form).grid
            known = [(grid, report(x, grid) | {f"{key}_uniform": value for key, value in uniform.items()})]
            searched.append((x, bits, known[0]))
        result[site] = known[0]
    return result
