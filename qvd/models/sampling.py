"""Drawing videos, batch by batch, from noise that depends on nothing but (seed, split, sample index)."""

from __future__ import annotations

import diffusers
import torch

from qvd.graph.finite import NotFiniteError, finite_predictions, first_trace, wider
from qvd.models.base import ModelAdapter
from qvd.models.noise import noise_generator
from qvd.models.parts import torch_dtype


def sample_batch(
    adapter: ModelAdapter,
    pipeline: diffusers.DiffusionPipeline,
    prompts: list[str],
    indices: range,
    *,
    seed: int,
    split: str,
    num_inference_steps: int,
) -> torch.Tensor:
    """uint8 (B, T, 3, H, W): the videos number `indices`, for their `prompts`.

    Raises:
        NotFiniteError: NaN or infinity in what a picture is made of; the sample, the step and the layer.
    """
    denoiser = adapter.denoiser(pipeline)

    def draw() -> torch.Tensor:
        generators = [noise_generator(seed, split, index) for index in indices]
        return adapter.sample(pipeline, prompts, generators, num_inference_steps)

    with torch.no_grad():
        try:
            with finite_predictions(denoiser):
                return draw()
        except NotFiniteError as error:
            trace = None if error.step is None else first_trace(denoiser, draw)
            raise _placed(error, adapter, f"{split} sample {indices[(error.row or 0) % len(indices)]}", trace) from None


def _placed(error: NotFiniteError, adapter: ModelAdapter, sample: str, trace: str | None) -> NotFiniteError:
    """The error in words: whose, when, where, and what to do."""
    when = "" if error.step is None else f", step {error.step + 1}"
    first = f", first in {trace}" if trace and trace not in str(error) else ""
    advice = wider(torch_dtype(adapter.dtype))
    return NotFiniteError(f"{sample}{when}: {error} in {adapter.dtype.value}{first}; {advice}", error.row, error.step)


def batches(total: int, batch_size: int) -> list[range]:
    """Consecutive index ranges that cover range(total)."""
    return [range(start, min(start + batch_size, total)) for start in range(0, total, batch_size)]
