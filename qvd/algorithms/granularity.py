"""Finer activation grids for a quantization of any method: per sampler step, per frame, or per token.

Every static per-tensor affine grid is replaced by a grid of its own bits whose ranges are observed group by group, on
the shifted and scaled input that it meets. Other grids (HiDi-TQ's, split ones) stay as they are.

Frames are found from shapes, with one entry sent through the denoiser, as diffusers' video models lay them out:
Conv3d has them on dimension 2, Conv1d and Conv2d folded into the batch, entry by entry; sequences either folded into
the batch or as the sequence itself (temporal attention), whichever dimension is as long as a clip. Layers with no such
dimension, or with two, stay per tensor, and their `notes` in the quantization map say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qvd.algorithms.layerwise import LayerSettings, activation_grid
from qvd.backends.convert import Site
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import HistogramObserver
from qvd.graph.hooks import attention_operands_to, layer_inputs_to
from qvd.graph.sites import Weighted, channel_dim, operand_sites, weighted_layers
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import AffineGrid, FrameGrid, InputGrid, TimestepGrid, TokenGrid, frames_apart
from qvd.options.progress import Progress, no_progress
from qvd.options.rules import ActivationGranularity
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization

FRAME_BINS = 1024
Sink = Callable[[Tensor], object]


def with_granularity(
    quantization: Quantization, granularity: ActivationGranularity, observation: Observation, num_frames: int
) -> Quantization:
    """`quantization` with the affine grids of its activations at another granularity.

    Args:
        observation: what the ranges are taken from.
        num_frames: frames of a clip.
    """
    if granularity is ActivationGranularity.tensor:
        return quantization
    sites: dict[str, LayerQuantization | OperandQuantization] = {**quantization.layers, **quantization.operands}
    n_bits = {name: site.grid.n_bits for name, site in sites.items() if isinstance(site.grid, AffineGrid)}
    transforms = {name: ChannelTransform(layer.shift, layer.scale) for name, layer in quantization.layers.items()}
    grids: Mapping[str, InputGrid]
    if granularity is ActivationGranularity.token:
        grids = token_grids(observation.denoiser, n_bits)
    elif granularity is ActivationGranularity.timestep:
        grids = observation.timestep_grids(n_bits, transforms)
    else:
        grids = observation.frame_grids(n_bits, transforms, num_frames)

    def refined(site: Site) -> Site:
        if site.name in grids:
            return replace(site, grid=grids[site.name], notes=site.notes | {"granularity": granularity.value})
        reason = "no frame axis" if site.name in n_bits else "a grid of its own"
        return site if site.grid is None else replace(site, notes=site.notes | {"granularity": f"tensor ({reason})"})

    return replace(
        quantization,
        layers={name: refined(layer) for name, layer in quantization.layers.items()},
        operands={name: refined(operand) for name, operand in quantization.operands.items()},
    )


def token_grids(denoiser: nn.Module, n_bits: Mapping[str, int]) -> dict[str, TokenGrid]:
    """The dynamic grid of each layer or operand; see `TokenGrid`."""
    layers = weighted_layers(denoiser)
    return {name: TokenGrid(bits, _token_dims(name, layers.get(name))) for name, bits in n_bits.items()}


def _token_dims(name: str, layer: Weighted | None) -> tuple[int, ...]:
    if layer is None:
        return (-2, -1) if name.endswith(".v") else (-1,)
    return (-1,) if isinstance(layer, nn.Linear) else tuple(range(1, layer.weight.dim()))


@dataclass(frozen=True)
class Observation:
    """How group-wise ranges are observed.

    Attributes:
        denoiser: in floating point; unchanged.
        calibration: what it is run on.
        settings: how a range is found from a histogram.
    """

    denoiser: nn.Module
    calibration: CalibrationSet
    settings: LayerSettings
    progress: Progress = no_progress
    batch_size: int = 16

    @torch.inference_mode()
    def timestep_grids(
        self, n_bits: Mapping[str, int], transforms: Mapping[str, ChannelTransform]
    ) -> dict[str, TimestepGrid]:
        """One grid per timestep of the calibration set; the histograms of one timestep are held at a time."""
        groups = self.calibration.by_timestep()
        found: dict[str, list[AffineGrid]] = {name: [] for name in n_bits}
        for timestep in self.progress(list(groups), "observing timesteps"):
            observers = {name: HistogramObserver(None) for name in n_bits}
            with self._watched({name: observer.update for name, observer in observers.items()}, transforms):
                for batch in self.calibration.batches_of(groups[timestep], self.batch_size):
                    self.denoiser(**batch)
            for name, observer in observers.items():
                found[name].append(activation_grid(observer.result(), n_bits[name], self.settings))
        return {name: TimestepGrid(n_bits[name], *_columns(grids), tuple(groups)) for name, grids in found.items()}

    @torch.inference_mode()
    def frame_grids(
        self, n_bits: Mapping[str, int], transforms: Mapping[str, ChannelTransform], num_frames: int
    ) -> dict[str, FrameGrid]:
        """One grid per frame, of every layer and operand whose frames can be told apart."""
        dims = frame_dims(self.denoiser, self.calibration, num_frames)
        observers = {n: [HistogramObserver(None, FRAME_BINS) for _ in range(num_frames)] for n in n_bits if n in dims}

        def sink(name: str) -> Sink:
            def update(x: Tensor) -> None:
                frames = frames_apart(x, dims[name], num_frames).unbind(dims[name] or 1)
                for observer, frame in zip(observers[name], frames, strict=True):
                    observer.update(frame)

            return update

        with self._watched({name: sink(name) for name in observers}, transforms):
            for batch in self.progress(self.calibration.batches(self.batch_size), "observing frames"):
                self.denoiser(**batch)
        return {
            name: FrameGrid(
                n_bits[name],
                *_columns([activation_grid(o.result(), n_bits[name], self.settings) for o in of_frames]),
                dims[name],
            )
            for name, of_frames in observers.items()
        }

    @contextmanager
    def _watched(self, sinks: Mapping[str, Sink], transforms: Mapping[str, ChannelTransform]) -> Iterator[None]:
        """While open, each sink is called with what its site's grid meets: x'' of layers, operands as they are."""
        layers = weighted_layers(self.denoiser)

        def transformed(name: str) -> Sink:
            transform, dim = transforms[name].to(layers[name].weight.device), channel_dim(layers[name])
            return lambda x: sinks[name](transform(x.float(), dim))

        layer_sinks = {name: transformed(name) for name in sinks if name in layers}
        operand_sinks = {name: sink for name, sink in sinks.items() if name not in layers}
        with layer_inputs_to(self.denoiser, layer_sinks), attention_operands_to(self.denoiser, operand_sinks):
            yield


@torch.inference_mode()
def frame_dims(denoiser: nn.Module, calibration: CalibrationSet, num_frames: int) -> dict[str, int]:
    """Layer or operand → the dimension that holds the frames, 0 where they are folded into the batch."""
    layers = weighted_layers(denoiser)
    found: dict[str, int] = {}

    def look(name: str) -> Sink:
        def note(x: Tensor) -> None:
            holding = [d for d in _offered(x, layers.get(name)) if x.shape[d] == num_frames]
            if len(holding) == 1:
                found[name] = holding[0]

        return note

    with (
        layer_inputs_to(denoiser, {name: look(name) for name in layers}),
        attention_operands_to(denoiser, {site: look(site) for site in operand_sites(denoiser)}),
    ):
        denoiser(**calibration.take([0]))
    return found


def _offered(x: Tensor, layer: Weighted | None) -> list[int]:
    """The dimensions of a layer's input, or of an operand (batch, heads, length, …), that may hold frames."""
    if layer is None:
        return [0, 2]
    if isinstance(layer, nn.Linear):
        return list(range(x.dim() - 1))
    return [2] if isinstance(layer, nn.Conv3d) else [0]


def _columns(grids: list[AffineGrid]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The grids' scales, and their zero points."""
    return tuple(grid.scale for grid in grids), tuple(grid.zero_point for grid in grids)
