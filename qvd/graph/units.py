"""The units of a reconstruction: disjoint modules that together hold every weighted layer."""

from __future__ import annotations

from torch import nn

from qvd.graph.sites import weighted_layers
from qvd.options.units import Reconstruction


def units_of_types(
    denoiser: nn.Module, block_types: tuple[type[nn.Module], ...]
) -> dict[Reconstruction, tuple[str, ...]]:
    """The units of each granularity, in module order; `qvd.graph.anatomy.Anatomy.blocks` says what they are.

    Args:
        block_types: the outermost modules of these types are the blocks.
    """
    layers = weighted_layers(denoiser)
    blocks: list[str] = []
    for name, module in denoiser.named_modules():
        if isinstance(module, block_types) and not any(name.startswith(f"{block}.") for block in blocks):
            blocks.append(name)
    alone = [name for name in layers if not any(name.startswith(f"{block}.") for block in blocks)]
    order = {name: i for i, (name, _) in enumerate(denoiser.named_modules())}
    return {
        Reconstruction.none: (),
        Reconstruction.layer: tuple(layers),
        Reconstruction.block: tuple(sorted(blocks + alone, key=order.__getitem__)),
    }


def unit_layers(denoiser: nn.Module, unit: str) -> list[str]:
    """Names of the weighted layers of a unit: itself, or those inside it."""
    return [name for name in weighted_layers(denoiser) if name == unit or name.startswith(f"{unit}.")]
