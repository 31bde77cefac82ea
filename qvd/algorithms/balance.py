"""Channel balance: per-channel scales that move the difficulty of activations into weights (SmoothQuant).

Source: Xiao et al. 2023 (arXiv 2211.10438), §4, eq. 3-4: s_j = max|X_j|^α / max|W_j|^(1 - α), X'' = X/s, W'' = W·s.
Layers that read one norm share s, with max|W_j| over all of them, and the norm absorbs it; other layers divide in their
own quantize step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer
from qvd.calibration.observers import SiteRange
from qvd.graph.sites import Weighted, num_groups
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import AffineGrid
from qvd.numerics.range_search import histogram_parameters
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import LayerQuantization, Notes
from qvd.spec.rules import SiteBits

SMALLEST = 1e-5


@dataclass(frozen=True)
class BalanceGroup:
    """Layers that share one scale, and the norm that absorbs it, if there is one."""

    members: list[str] = field(default_factory=list)
    norm: str | None = None


def balance_groups(names: Sequence[str], absorbing: Mapping[str, Sequence[str]]) -> list[BalanceGroup]:
    """The readers of one norm if all of them take part (`qvd.graph.absorb.absorbing_norms`), else each for itself."""
    norm_of = {n: norm for norm, readers in absorbing.items() if set(readers) <= set(names) for n in readers}
    groups: dict[str, BalanceGroup] = {}
    for name in names:
        norm = norm_of.get(name)
        groups.setdefault(norm or name, BalanceGroup([], norm)).members.append(name)
    return list(groups.values())


def channel_scale(record: SiteRange, layers: Sequence[Weighted], alpha: float) -> Tensor:
    """s (channels,) float32, at least 1e-5; 1 where a channel of the activation or of all weights is zero.

    Args:
        record: the shared input's statistics.
        layers: its readers, ungrouped.
    """
    activation = torch.maximum(record.channel_max, -record.channel_min).float()
    weights = (layer.weight.detach().float().cpu().abs().movedim(1, 0).flatten(1).amax(1) for layer in layers)
    weight = torch.stack(list(weights)).amax(0)
    scale = activation**alpha / weight.clamp(min=SMALLEST) ** (1 - alpha)
    return torch.where((activation > 0) & (weight > 0), scale.clamp(min=SMALLEST), torch.ones_like(scale))


def balanced_grid(record: SiteRange, transform: ChannelTransform, n_bits: int, settings: LayerSettings) -> AffineGrid:
    """The static min-max grid of X'', from the exact extremes of its channels."""
    low, high = (transform(bound, 0) for bound in (record.channel_min, record.channel_max))
    bounds = low.min().item(), high.max().item()
    symmetric = settings.symmetric_on(*bounds)
    scale, zero_point = histogram_parameters(record.histogram, *bounds, n_bits, RangeMethod.minmax, symmetric=symmetric)
    return AffineGrid(n_bits, scale, zero_point)


def balance(
    names: Sequence[str],
    layers: Mapping[str, Weighted],
    plan: Mapping[str, SiteBits],
    ranges: Mapping[str, SiteRange],
    absorbing: Mapping[str, Sequence[str]],
    alpha: float,
    settings: LayerSettings,
) -> dict[str, LayerQuantization]:
    """Every layer of `names` (ungrouped, with quantized inputs), balanced and quantized."""
    result = {}
    for group in balance_groups(names, absorbing):
        # Readers of one tensor have one record; elsewhere the group is one layer.
        transform = ChannelTransform(
            scale=channel_scale(ranges[group.members[0]], [layers[name] for name in group.members], alpha)
        )
        for name in group.members:
            bits = plan[name]
            assert bits.activation is not None, "balanced layers have quantized inputs"
            grid = balanced_grid(ranges[name], transform, bits.activation, settings)
            notes: Notes = {"max_scale": transform.scale.max().item()} if transform.scale is not None else {}
            choice = LayerChoice(transform, group.norm, grid, notes=notes)
            result[name] = quantize_layer(name, layers[name], bits, ranges[name], settings, choice)
    return result


def can_be_balanced(layer: Weighted, bits: SiteBits) -> bool:
    """Whether the input is quantized and each of its channels meets all outputs."""
    return bits.activation is not None and num_groups(layer) == 1
