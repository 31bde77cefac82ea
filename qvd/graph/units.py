"""The units of a reconstruction: disjoint modules that together hold every weighted layer."""

from __future__ import annotations

from torch import nn

from qvd.graph.sites import weighted_layers
from qvd.options.units import Reconstruction


def units_of_types(
    denoiser: nn.Module, granularity: Reconstruction, block_types: tuple[type[nn.Module], ...]
) -> list[str]:
    """The outermost modules of the given types, then alone every weighted layer outside of them, in module order.

    Args:
        granularity: `block`; with `layer` the layers inside blocks stand alone too, with `none` there are no units.
    """
    if granularity is Reconstruction.none:
        return []
    layers = weighted_layers(denoiser)
    blocks: list[str] = []
    if granularity is Reconstruction.block:
        for name, module in denoiser.named_modules():
            if isinstance(module, block_types) and not any(name.startswith(f"{block}.") for block in blocks):
                blocks.append(name)
    alone = [name for name in layers if not any(name.startswith(f"{block}.") for block in blocks)]
    order = {name: i for i, (name, _) in enumerate(denoiser.named_modules())}
    return sorted(blocks + alone, key=order.__getitem__)


def unit_layers(denoiser: nn.Module, unit: str) -> list[str]:
    """Names of the weighted layers of a unit: itself, or those inside it."""
    return [name for name in weighted_layers(denoiser) if name == unit or name.startswith(f"{unit}.")]
