"""What every family does alike between its weights and a sampled video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qvd.options.model import DType, Init, Offload

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from qvd.models.base import ModelAdapter


def torch_dtype(dtype: DType) -> torch.dtype:
    """torch's name of a config's dtype."""
    return getattr(torch, dtype.value)


def place(pipeline: DiffusionPipeline, adapter: ModelAdapter, device: str) -> DiffusionPipeline:
    """Freeze a pipeline, silence its bar, and put it on `device` or let it be offloaded from there."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()
    dtype = torch_dtype(adapter.dtype)
    if dtype is not torch.float32:
        adapter.denoiser(pipeline).register_forward_pre_hook(_cast_inputs(dtype), with_kwargs=True)
    if device == "cpu" or adapter.offload is Offload.none:
        return pipeline.to(device)
    offload = {
        Offload.model: pipeline.enable_model_cpu_offload,
        Offload.sequential: pipeline.enable_sequential_cpu_offload,
    }
    offload[adapter.offload](device=device)
    return pipeline


def _cast_inputs(dtype: torch.dtype) -> Callable[..., Any]:
    """Calibration sets come as float32; timesteps, with one number per entry, stay as they are."""

    def cast(value: Any) -> Any:
        is_data = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
        return value.to(dtype) if is_data else value

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}

    return hook


@torch.no_grad()
def decode_video(vae: Any, latents: Tensor, chunk: int) -> Tensor:
    """Latents (B, 4, T, h, w), as the sampler leaves them → uint8 (B, T, 3, H, W), `chunk` frames at a time."""
    frames = (latents / vae.config.scaling_factor).movedim(1, 2).flatten(0, 1).to(vae.dtype)
    decoded = torch.cat([vae.decode(part).sample.float().cpu() for part in frames.split(chunk)])
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.unflatten(0, (len(latents), -1))


STAGES = ("FP sampling", "calibration", "quantized sampling")
GIB = 2**30
AUTOENCODER = 84_000_000  # parameters of Stable Diffusion's
# Tensors alive at once beside a layer's own input and output: residuals, skips, copies of a layout change.
LIVE = 3


def required_memory(adapter: ModelAdapter) -> dict[str, int]:
    """Bytes that each stage needs, estimated from shapes alone: the architecture runs on the meta device.

    Weights (of the largest part with `offload: model`, none with `sequential`), plus `LIVE` times the widest layer's
    input and output; calibration and quantized sampling also hold one attention's scores explicitly, and quantized
    sampling a second denoiser.
    """
    denoiser, width = adapter.empty_denoiser(), torch_dtype(adapter.dtype).itemsize
    denoiser_bytes = width * sum(parameter.numel() for parameter in denoiser.parameters())
    with torch.device("meta"):
        denoiser.to("meta")
        example = adapter.example_call(denoiser, 2 * adapter.batch_size)
        widest, scores = working_set(denoiser, example)
    activations = LIVE * widest * width
    others = [0]  # unknown, and small, where no full-size family is named
    if adapter.architecture is not None:
        others = [AUTOENCODER, 0 if adapter.init is Init.random else adapter.text_parameters]
    weights = {
        Offload.none: denoiser_bytes + width * sum(others),
        Offload.model: max(denoiser_bytes, width * max(others)),
        Offload.sequential: 0,
    }[adapter.offload]
    return dict(
        zip(
            STAGES,
            (
                weights + activations,
                weights + activations + 2 * scores * width,
                weights + denoiser_bytes + activations + 2 * scores * width,
            ),
            strict=True,
        )
    )


@torch.no_grad()
def working_set(denoiser: nn.Module, example: dict[str, Any]) -> tuple[int, int]:
    """Elements of the largest (layer input + output), and of the largest attention's scores, in one call."""
    from qvd.graph.sites import attention_modules, weighted_layers

    widest = scores = 0

    def layer(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Tensor) -> None:
        nonlocal widest
        widest = max(widest, (args[0] if args else kwargs["input"]).numel() + output.numel())

    def attention(module: Any, args: tuple, kwargs: dict[str, Any], output: Tensor) -> None:
        nonlocal scores
        queries = args[0] if args else kwargs["hidden_states"]
        context = kwargs.get("encoder_hidden_states")
        keys = queries if context is None else context
        scores = max(scores, len(queries) * module.heads * queries.shape[1] * keys.shape[1])

    handles = [m.register_forward_hook(layer, with_kwargs=True) for m in weighted_layers(denoiser).values()]
    handles += [m.register_forward_hook(attention, with_kwargs=True) for m in attention_modules(denoiser).values()]
    denoiser(**example)
    for handle in handles:
        handle.remove()
    return widest, scores


def available_memory(device: str) -> int:
    """Free bytes of a GPU, or of main memory."""
    if device != "cpu":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def check_memory(adapter: ModelAdapter, device: str) -> None:
    """Refuse a model that some stage has no memory for.

    Raises:
        ValueError: names the stage, what it needs, what there is, and what to change.
    """
    available = available_memory(device)
    if device == "cpu":
        adapter = replace(adapter, offload=Offload.none)  # as `place` does
    for stage, needed in required_memory(adapter).items():
        if needed > available:
            raise ValueError(
                f"{stage} needs about {needed / GIB:.1f} GiB and {device} has {available / GIB:.1f} GiB free: "
                + advice(adapter, device)
            )


def advice(adapter: ModelAdapter, device: str) -> str:
    """What makes a stage smaller, of what this config has not done yet."""
    options = []
    if adapter.dtype is DType.float32:
        options.append("model.dtype=bfloat16")
    if adapter.batch_size > 1:
        options.append("model.batch_size=1")
    if device != "cpu" and adapter.offload is Offload.none:
        options.append("model.offload=model")
    if adapter.resizable:
        options.append(f"model.resolution below {adapter.resolution}")
    return " or ".join(options) or "no smaller setting is left"
