"""The dial of difficulty: the same floating-point function, harder to quantize. OURS; no paper has it.

Tiny models are kinder to quantization than billion-parameter ones. Where channels run over a linear path
(`qvd.models.linear_paths`) each can be stretched and offset where it is made, and the layers that read it take that
back. What lies behind a SiLU (the inputs of most U-Net convolutions) has no such path and keeps its natural ranges.
Temporal features are stretched by a gain right behind their SiLU.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from qvd.graph.hooks import layer_inputs_to
from qvd.graph.sites import channel_dim, num_groups, weighted_layers
from qvd.models.linear_paths import LinearPath, linear_paths
from qvd.numerics.channels import scale_input_channels


@torch.no_grad()
def raise_disparity_(
    denoiser: nn.Module, example: Mapping[str, Any], disparity: float, asymmetry: float = 0.0
) -> list[LinearPath]:
    """Scatter the channel ranges of every linear path, in place, without changing the denoiser's function.

    The ratio of a path's widest to its median channel range, measured on `example`, is multiplied by `disparity`: the
    gains are log-normal over the channels' ranks, the widest channel's the largest. Then each channel is offset by
    `asymmetry` half-ranges, up or down, if all readers have biases that can take it back.

    Args:
        denoiser: a diffusers U-Net or Latte, or a `ClassLatte`.
        example: one call of its forward.

    Returns:
        The paths that it changed.
    """
    paths, layers = linear_paths(denoiser, example), weighted_layers(denoiser)
    ranges = _channel_ranges(denoiser, example, {name for path in paths for name in path.readers})
    for path in paths:
        # Geometric mean over readers, whose channels differ only where blocks share one modulation.
        width = torch.stack([ranges[name].clamp(min=1e-12).log() for name in path.readers]).mean(0).exp()
        scores = normal_scores(width)
        gain = disparity ** (scores / scores.max())
        _stretch_(path, layers, gain)
        _offset_(path, layers, asymmetry / 2 * width * gain)
    return paths


def _stretch_(path: LinearPath, layers: Mapping[str, nn.Module], gain: Tensor) -> None:
    """Multiply the path's channels by `gain` where they are made, divide where they are read."""
    for parameter in path.rows:
        parameter.mul_(gain.view(-1, *[1] * (parameter.dim() - 1)))
    for parameter in path.modulations:
        parameter.add_(1).mul_(gain).sub_(1)
    for name in path.readers:
        layer: Any = layers[name]
        layer.weight.copy_(scale_input_channels(layer.weight, 1 / gain, num_groups(layer)))


def _offset_(path: LinearPath, layers: Mapping[str, nn.Module], size: Tensor) -> None:
    """Add ±`size`, with signs seeded by the path's name, if the biases of pointwise readers can take it back."""
    readers: list[Any] = [layers[name] for name in path.readers]
    if path.offset is None or not all(r.bias is not None and r.weight[0, 0].numel() == 1 for r in readers):
        return
    generator = torch.Generator().manual_seed(zlib.crc32(path.name.encode()))
    signs = torch.randint(0, 2, size.shape, generator=generator) * 2 - 1
    offset = size * signs.to(size)
    path.offset.add_(offset)
    for layer in readers:
        layer.bias.sub_(layer.weight.flatten(1) @ offset)


def _channel_ranges(denoiser: nn.Module, example: Mapping[str, Any], names: Iterable[str]) -> dict[str, Tensor]:
    """max - min of every input channel of the named layers in one call."""
    layers = weighted_layers(denoiser)
    ranges: dict[str, Tensor] = {}

    def sink(name: str) -> Callable[[Tensor], None]:
        def measure(input: Tensor) -> None:
            rows = input.movedim(channel_dim(layers[name]), -1).flatten(0, -2)
            ranges[name] = rows.amax(0) - rows.amin(0)

        return measure

    with layer_inputs_to(denoiser, {name: sink(name) for name in names}):
        denoiser(**example)
    return ranges


def normal_scores(values: Tensor) -> Tensor:
    """(n,) standard normal quantiles in the order of `values`: symmetric, 0 at the median."""
    ranks = values.argsort(stable=True).argsort()
    return torch.special.ndtri((ranks + 0.5) / len(values)).to(values)


class ChannelGain(nn.Module):
    """x·gain along the last dimension."""

    gain: Tensor

    def __init__(self, gain: Tensor):
        super().__init__()
        self.register_buffer("gain", gain)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


@torch.no_grad()
def skew_temporal_features_(denoiser: nn.Module, features: Mapping[str, Tensor], skew: float) -> None:
    """Stretch the channels of the temporal features by log-normal gains, in place, without changing the function.

    The gains' logarithms have standard deviation `skew`, and the channel with the largest value gets the largest gain:
    a few channels come to lie far out, most of the mass next to 0. SiLU(g·x) is not g·SiLU(x), so the gain must stand
    behind the SiLU. In a U-Net the time embedding applies both, once for all residual blocks, which diffusers provides
    for by `post_act` and `skip_time_act`; in a Latte the modulation's SiLU is followed by it.

    Args:
        denoiser: a diffusers U-Net or Latte, or a `ClassLatte`.
        features: (n_timesteps, channels) of every temporal-feature site, one tensor for all, as adapters give them.
        skew: at least 0.
    """
    network: Any = denoiser
    feature = next(iter(features.values()))
    gain = torch.exp(skew * normal_scores(feature.amax(0))).to(next(denoiser.parameters()))
    resnets = [module for module in denoiser.modules() if isinstance(module, ResnetBlock2D)]
    for resnet in resnets:
        resnet.skip_time_act = True
    if resnets:
        network.time_embedding.post_act = nn.Sequential(resnets[0].nonlinearity, ChannelGain(gain))
    for site in features:
        layer: Any = denoiser.get_submodule(site)
        layer.weight.div_(gain)
        if site.endswith(".adaLN_modulation.1"):
            modulation: Any = denoiser.get_submodule(site.removesuffix(".1"))
            modulation[0] = nn.Sequential(modulation[0], ChannelGain(gain))
        elif site == "adaln_single.linear":
            network.adaln_single.silu = nn.Sequential(network.adaln_single.silu, ChannelGain(gain))
