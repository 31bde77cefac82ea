"""A small sample of every layer's real inputs, as rows that a weight matrix multiplies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observe import FOLDS
from qvd.graph.hooks import layer_inputs_to
from qvd.graph.sites import Conv, Weighted, weighted_layers


def input_rows(layer: Weighted, input: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    """Random receptive fields of a layer's input.

    Args:
        layer: Linear or Conv1d/2d/3d.
        input: one input of it.
        num_rows: how many; drawn with replacement.

    Returns:
        (num_rows, in_channels, taps); taps is 1 for Linear and the flattened kernel for convolutions. Where a tap falls
        on zero padding the row holds NaN: padding is no data, it is neither quantized nor shifted.
    """
    if isinstance(layer, nn.Linear):
        flat = input.reshape(-1, input.shape[-1])
        return flat[torch.randint(len(flat), (num_rows,), generator=generator)][:, :, None].float()
    rank = len(layer.kernel_size)
    windows = receptive_fields(layer, input.float(), float("nan"))
    places = [torch.randint(n, (num_rows,), generator=generator) for n in (len(windows), *windows.shape[2 : 2 + rank])]
    channels_first = windows.movedim(1, 1 + rank)
    return channels_first[tuple(places)].flatten(2)


def input_sequences(input: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    """Random whole sequences of an attention's input (batch, length, channels), together about `num_rows` long.

    Returns:
        (sequences ≥ 1, length, channels) float32, drawn with replacement.
    """
    count = -(-num_rows // input.shape[1])
    return input[torch.randint(len(input), (count,), generator=generator)].float()


def receptive_fields(layer: Conv, input: Tensor, padding_value: float) -> Tensor:
    """(batch, channels, *output size, *kernel size): a view of what every output position of a convolution sees."""
    windows = F.pad(input, _padding(layer), value=padding_value)
    for i, (kernel, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        windows = windows.unfold(2 + i, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    return windows


def _padding(layer: Conv) -> list[int]:
    """`F.pad`'s argument for a convolution's own padding."""
    if isinstance(layer.padding, str):
        return [int(p) for p in layer._reversed_padding_repeated_twice]
    return [p for p in reversed(layer.padding) for _ in (0, 1)]


@torch.inference_mode()
def capture_rows(
    denoiser: nn.Module,
    names: Iterable[str],
    calibration: CalibrationSet,
    num_rows: int,
    num_entries: int,
    seed: int = 0,
    sequences: Collection[str] = (),
) -> dict[str, list[Tensor]]:
    """About `num_rows` `input_rows` of each named layer, from about `num_entries` calibration entries, fold by fold.

    Each of the `FOLDS` folds of `observe` gives as many, from evenly spaced entries of its own. Layers that read the
    same tensor get the same rows; those named in `sequences` get `input_sequences` instead.
    """
    layers = weighted_layers(denoiser)
    folds = calibration.folds(FOLDS)
    batches_of_fold = [
        calibration.batches_of(evenly_spaced(entries, -(-num_entries // len(folds))), 8) for entries in folds
    ]
    per_batch = -(-num_rows // sum(map(len, batches_of_fold)))
    rows: dict[str, list[Tensor]] = {name: [] for name in names}

    def sink(name: str) -> Callable[[Tensor], None]:
        def take(input: Tensor) -> None:
            generator = torch.Generator().manual_seed(seed + len(rows[name]))
            if name in sequences:
                rows[name].append(input_sequences(input, per_batch, generator).cpu())
            else:
                rows[name].append(input_rows(layers[name], input, per_batch, generator).cpu())

        return take

    with layer_inputs_to(denoiser, {name: sink(name) for name in rows}):
        for batch in chain(*batches_of_fold):
            denoiser(**batch)
    lengths = [len(batches) for batches in batches_of_fold]
    return {name: [torch.cat(part) for part in _cut(parts, lengths)] for name, parts in rows.items()}


def evenly_spaced(entries: Sequence[int], count: int) -> list[int]:
    """`count` of the entries, or all, the first and the last among them."""
    places = torch.linspace(0, len(entries) - 1, min(count, len(entries))).round().long()
    return [entries[place] for place in places.tolist()]


def _cut(parts: list[Tensor], lengths: Sequence[int]) -> list[list[Tensor]]:
    ends = list(accumulate(lengths, initial=0))
    return [parts[start:end] for start, end in pairwise(ends)]
