"""Whether a model fits, from shapes alone: its architecture runs on the meta device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from qvd.graph.sites import attention_modules, weighted_layers
from qvd.models.base import ModelAdapter
from qvd.models.parts import torch_dtype
from qvd.options.model import DType, Init, Offload

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
