"""The Python door: a model, what calibration saw of it, its quantization, and both ways between that and a file.

`qvd` hands these out lazily, see `qvd.__init__`. What a run adds (stages kept in a store, metrics, tracking) is
`experiments`'; here everything is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_type_hints

import diffusers
import torch
from torch import Tensor, nn

from qvd.backends.base import Backend
from qvd.backends.convert import convert as convert_denoiser
from qvd.backends.simulated import SIMULATION
from qvd.calibration.calibration_set import CalibrationSet, concatenate
from qvd.calibration.capture import capture_calibration_batch
from qvd.calibration.observe import observe
from qvd.calibration.observers import Ranges
from qvd.graph.sites import operand_sites, weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.methods.qvd import QVD
from qvd.models.animatediff import AnimateDiff
from qvd.models.base import ModelAdapter
from qvd.models.hub import find_folder
from qvd.models.latte import Latte
from qvd.models.latte_class import ClassLatteAdapter
from qvd.models.loading import load
from qvd.models.modelscope import ModelScope
from qvd.models.sampling import batches, sample_batch
from qvd.options.bits import Bits
from qvd.options.calibration import CalibrationPlan
from qvd.options.hub import MODELS, read_key
from qvd.options.progress import Progress, no_progress
from qvd.spec.quantization import Quantization

FAMILIES = (ModelScope, AnimateDiff, Latte, ClassLatteAdapter)


@dataclass
class Model:
    """A pipeline to sample with, and the adapter that knows its family."""

    adapter: ModelAdapter
    pipeline: diffusers.DiffusionPipeline

    @property
    def denoiser(self) -> nn.Module:
        """The network that the sampler calls at every step; assign a converted one to sample with that."""
        return self.adapter.denoiser(self.pipeline)

    @denoiser.setter
    def denoiser(self, denoiser: nn.Module) -> None:
        self.adapter.set_denoiser_(self.pipeline, denoiser)

    @property
    def device(self) -> torch.device:
        """Of the denoiser's weights."""
        return next(self.denoiser.parameters()).device

    def sample(self, prompts: Sequence[str], seed: int = 0, num_inference_steps: int | None = None) -> Tensor:
        """uint8 (B, T, 3, H, W), one video for each prompt.

        Noise is that of evaluation and depends on the seed and the prompt's place only: a quantized model's videos
        compare with those that the floating-point model made of the same call.
        """
        steps = num_inference_steps or self.adapter.num_inference_steps
        common: dict[str, Any] = {"seed": seed, "split": "evaluation", "num_inference_steps": steps}
        videos = [
            sample_batch(self.adapter, self.pipeline, of_batch, indices, **common)
            for indices, of_batch in _batches(prompts, self.adapter.batch_size)
        ]
        return torch.cat(videos)


@dataclass(frozen=True)
class Calibration:
    """What calibration saw of a floating-point model.

    Attributes:
        captured: the denoiser's inputs.
        ranges: statistics of every activation that can be quantized.
        num_inference_steps: of the sampling that was watched.
    """

    captured: CalibrationSet
    ranges: Ranges
    num_inference_steps: int


def load_model(model: str | Path | ModelAdapter, device: str = "cpu", **options: Any) -> Model:
    """The pipeline in floating point, frozen, on `device`.

    Args:
        model: an embedded model's name ("tiny_latte"), a folder in the hub's layout, a hub id; or an adapter, for what
            `model_index.json` does not tell (a released Latte checkpoint, a motion adapter apart, random weights).
        options: of the family, see `qvd.options.model`; those not given are 16 frames, the network's own resolution,
            50 steps, guidance 7.5 and one video at a time.

    Raises:
        FileNotFoundError: no pipeline there.
        ValueError: a pipeline of a family that is not known, an unknown option, or a value that is not allowed.
    """
    adapter = model if isinstance(model, ModelAdapter) else _adapter(str(model), options)
    return Model(adapter, load(adapter, device, prompt="a"))


def calibrate(
    model: Model,
    prompts: Sequence[str],
    seed: int = 0,
    num_inference_steps: int | None = None,
    num_steps: int | None = None,
    progress: Progress = no_progress,
) -> Calibration:
    """Sample the prompts in floating point, and keep the denoiser's inputs and their statistics.

    Args:
        prompts: each sampled once; QVD's paper setting has 64.
        num_inference_steps: of the sampler; None: the model's.
        num_steps: evenly spaced steps that are kept of each sample; None: all.
        progress: `progress(items, description)` iterates over items, e.g. a bar.

    Raises:
        ValueError: no prompts, or more kept steps than the sampler takes.
    """
    if not prompts:
        raise ValueError("prompts=[]: calibration needs at least one")
    steps = num_inference_steps or model.adapter.num_inference_steps
    plan = CalibrationPlan(num_samples=len(prompts), num_steps=num_steps or steps)
    plan.check(steps)
    common: dict[str, Any] = {"seed": seed, "num_inference_steps": steps, "plan": plan}
    parts = [
        capture_calibration_batch(model.adapter, model.pipeline, of_batch, indices, **common)
        for indices, of_batch in progress(_batches(prompts, model.adapter.batch_size), "capture")
    ]
    captured = CalibrationSet.from_tensors(concatenate(parts))
    captured.device = model.device
    return Calibration(captured, observe(model.denoiser, captured, min(16, len(captured)), progress), steps)


def quantize(
    model: Model,
    calibration: Calibration,
    bits: str = "w8a8",
    method: PTQMethod | None = None,
    progress: Progress = no_progress,
) -> Quantization:
    """What the method makes of the model, as data; the model is unchanged.

    Args:
        model: as it was calibrated.
        bits: "w8a8", "w4a8", …
        method: e.g. `baselines.naive.Naive()`; None: `QVD()`.

    Raises:
        ValueError: bits that are not allowed, or layer rules that match nothing.
    """
    adapter, method = model.adapter, method or QVD()
    context = QuantizationContext(
        bits=Bits.parse(bits),
        anatomy=adapter.anatomy(model.denoiser),
        timesteps=adapter.timesteps(model.pipeline, calibration.num_inference_steps),
        temporal_features=adapter.temporal_features,
        progress=progress,
    )
    return method.run(model.denoiser, calibration.ranges, calibration.captured, context)


def convert(denoiser: nn.Module, quantization: Quantization, backend: Backend = SIMULATION) -> nn.Module:
    """A copy of the denoiser that executes the quantization; the original is unchanged.

    What the backend refuses is simulated; `qvd.backends.convert.placements` of the copy tells.

    Raises:
        ValueError: a quantization of another network.
    """
    own = {*weighted_layers(denoiser), *operand_sites(denoiser)}
    others = [site for site in (*quantization.layers, *quantization.operands) if site not in own]
    if others:
        raise ValueError(f"the quantization is of another network: this {type(denoiser).__name__} has no {others[0]}")
    return convert_denoiser(denoiser, quantization, backend)


def _batches(prompts: Sequence[str], size: int) -> list[tuple[range, list[str]]]:
    """Samples by their numbers, with their prompts."""
    return [(indices, list(prompts[indices.start : indices.stop])) for indices in batches(len(prompts), size)]


def _adapter(path: str, options: dict[str, Any]) -> ModelAdapter:
    """The adapter of the family that the pipeline's own `model_index.json` names."""
    embedded = (MODELS / "weights" / path / "model_index.json").is_file() and not Path(path).exists()
    path = f"weights/{path}" if embedded else path
    folder = find_folder(path, options.get("revision"), embedded, "model_index.json", variant=options.get("variant"))
    pipeline = str(read_key(folder / "model_index.json", "_class_name"))
    families = {family.pipeline_name: family for family in FAMILIES}
    if pipeline not in families:
        raise ValueError(f"{path}: a {pipeline}; allowed are {', '.join(families)}")
    family = families[pipeline]
    hints = get_type_hints(family)
    unknown = [name for name in options if name not in hints]
    if unknown:
        raise ValueError(f"{unknown[0]}: {family.__name__} has no such option")
    chosen = {
        name: hints[name](value) if isinstance(hints[name], EnumMeta) else value for name, value in options.items()
    }
    default = {"num_frames": 16, "num_inference_steps": 50, "guidance_scale": 7.5, "batch_size": 1}
    if "resolution" not in options:
        default["resolution"] = _resolution(folder, family)
    adapter = family(path=path, embedded=embedded, **{**default, **chosen})
    adapter.check()
    return adapter


def _resolution(folder: Path, family: type[ModelAdapter]) -> int:
    """What the network was made for: its latents' side times the autoencoder's reduction."""
    levels = len(read_key(folder / "vae" / "config.json", "block_out_channels"))
    return read_key(folder / family.part / "config.json", "sample_size") * 2 ** (levels - 1)
