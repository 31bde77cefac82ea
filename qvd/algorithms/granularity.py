"""Finer activation grids for a quantization of any method: per sampler step, per frame, or per token.

Every static per-tensor affine grid is replaced by a grid of its own bits whose ranges are observed group by group, on
the shifted and scaled input that it meets: over all calls together, or call by call and averaged. Other grids
(HiDi-TQ's, split ones) stay as they are.

Frames are found from shapes, with one entry sent through the denoiser, as diffusers' video models lay them out:
Conv3d has them on dimension 2, Conv1d and Conv2d folded into the batch, entry by entry; sequences either folded into
the batch or as the sequence itself (temporal attention), whichever dimension is as long as a clip. Layers with no such
dimension, or with two, stay per tensor, and their `notes` in the quantization map say so. Of frames in the batch, both
halves of classifier-free guidance are calls of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qvd.algorithms.layerwise import LayerSettings
from qvd.algorithms.reduction import AveragedRange, JointRange, RangeCollector
from qvd.backends.convert import Site
from qvd.calibration.calibration_set import Batches, CalibrationSet
from qvd.calibration.observers import NUM_BINS
from qvd.graph.hooks import attention_operands_to, layer_inputs_to
from qvd.graph.sites import Weighted, channel_dim, operand_sites, weighted_layers
from qvd.numerics.channels import ChannelTransform
from qvd.numerics.grids import AffineGrid, FrameGrid, InputGrid, TimestepGrid, TokenGrid, frames_apart
from qvd.options.progress import Progress, no_progress
from qvd.options.rules import ActivationGranularity, RangeReduction
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
    if granularity is ActivationGranularity.tensor and observation.reduction is RangeReduction.joint:
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
        grids = observation.tensor_or_frame_grids(n_bits, transforms, granularity, num_frames)

    def refined(site: Site) -> Site:
        if site.grid is None:
            return site
        grid = grids.get(site.name, site.grid)
        notes = {**site.notes, "granularity": granularity.value}
        if site.name not in n_bits:
            notes["granularity"] = "tensor (a grid of its own)"
        elif granularity.by_frame and not isinstance(grid, FrameGrid):
            notes["granularity"] = "tensor (no frame axis)"
        if site.name in grids and observation.reduction is not RangeReduction.joint:
            notes["range_reduction"] = observation.reduction.value
        return replace(site, grid=grid, notes=notes)

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
        reduction: how it comes from many calls; for `mean` each sample's step is a call.
    """

    denoiser: nn.Module
    calibration: CalibrationSet
    settings: LayerSettings
    reduction: RangeReduction = RangeReduction.joint
    progress: Progress = no_progress
    batch_size: int = 16

    @torch.inference_mode()
    def timestep_grids(
        self, n_bits: Mapping[str, int], transforms: Mapping[str, ChannelTransform]
    ) -> dict[str, TimestepGrid]:
        """One grid per timestep of the calibration set; the statistics of one timestep are held at a time."""
        groups = self.calibration.by_timestep()
        found: dict[str, list[AffineGrid]] = {name: [] for name in n_bits}
        for timestep in self.progress(list(groups), "observing timesteps"):
            collectors = {name: self._collector(bits, NUM_BINS) for name, bits in n_bits.items()}
            with self._watched({name: collector.update for name, collector in collectors.items()}, transforms):
                for batch in self._calls(groups[timestep]):
                    self.denoiser(**batch)
            for name, collector in collectors.items():
                found[name].append(collector.grid)
        return {name: TimestepGrid(n_bits[name], *_columns(grids), tuple(groups)) for name, grids in found.items()}

    @torch.inference_mode()
    def tensor_or_frame_grids(
        self,
        n_bits: Mapping[str, int],
        transforms: Mapping[str, ChannelTransform],
        granularity: ActivationGranularity,
        num_frames: int,
    ) -> dict[str, AffineGrid | FrameGrid]:
        """One grid per frame of every site whose frames can be told apart, and of the others one, if it is averaged."""
        dims = frame_dims(self.denoiser, self.calibration, num_frames) if granularity.by_frame else {}
        if granularity is ActivationGranularity.batch_frame:
            dims = {name: dim for name, dim in dims.items() if dim == 0}
        whole = [] if self.reduction is RangeReduction.joint else [name for name in n_bits if name not in dims]
        single = {name: self._collector(n_bits[name], NUM_BINS) for name in whole}
        framed = {
            name: [self._collector(bits, FRAME_BINS) for _ in range(num_frames)]
            for name, bits in n_bits.items()
            if name in dims
        }

        def sink(name: str) -> Sink:
            def update(x: Tensor) -> None:
                for call in self._frame_calls(frames_apart(x, dims[name], num_frames), dims[name]):
                    for collector, frame in zip(framed[name], call, strict=True):
                        collector.update(frame)

            return update

        sinks = {name: sink(name) for name in framed} | {name: found.update for name, found in single.items()}
        with self._watched(sinks, transforms):
            for batch in self.progress(self._calls(range(len(self.calibration))), "observing ranges"):
                self.denoiser(**batch)
        return {name: found.grid for name, found in single.items()} | {
            name: FrameGrid(n_bits[name], *_columns([found.grid for found in of_frames]), dims[name])
            for name, of_frames in framed.items()
        }

    def _collector(self, n_bits: int, num_bins: int) -> RangeCollector:
        if self.reduction is RangeReduction.mean:
            return AveragedRange(n_bits, self.settings)
        return JointRange(n_bits, self.settings, num_bins)

    def _calls(self, entries: Sequence[int]) -> Batches:
        """What the denoiser is run on: the calls to average over, or batches of any size."""
        if self.reduction is RangeReduction.mean:
            return Batches(self.calibration, self.calibration.by_call(entries))
        return self.calibration.batches_of(entries, self.batch_size)

    def _frame_calls(self, framed: Tensor, dim: int) -> Iterator[tuple[Tensor, ...]]:
        """The frames of each call; where they lie in the batch, every entry (half of guidance) is averaged over."""
        if dim == 0 and self.reduction is RangeReduction.mean:
            yield from (entry.unbind(0) for entry in framed)
        else:
            yield framed.unbind(dim or 1)

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
