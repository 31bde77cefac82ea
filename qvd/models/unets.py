"""What the U-Nets of diffusers have in common, for the adapters of U-Net families."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from qvd.graph.anatomy import BoundaryLayers
from qvd.models.base import ModelAdapter
from qvd.models.random_init import latent_side, random_embeddings

BOUNDARY = BoundaryLayers(
    first=("conv_in",), last=("conv_out",), embedders=("time_embedding.linear_1", "time_embedding.linear_2")
)


def skip_concatenations(denoiser: nn.Module) -> dict[str, int]:
    """Convolution that reads a skip concatenation → the channel at which the skip's part starts.

    Of a residual block only `conv_shortcut` does: `conv1` reads the concatenation through a GroupNorm, after which the
    two parts no longer differ in scale (Q-Diffusion, arXiv 2302.04304, §3.3, splits the shortcut likewise).
    """
    unet: Any = denoiser
    names = {id(module): name for name, module in denoiser.named_modules()}
    channels = unet.mid_block.resnets[-1].out_channels
    split = {}
    for block in unet.up_blocks:
        for resnet in block.resnets:
            split[names[id(resnet.conv_shortcut)]] = channels
            channels = resnet.out_channels
    return split


def time_embedding_feature(denoiser: nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
    """(n_timesteps, channels) what every `time_emb_proj` reads at each timestep."""
    unet: Any = denoiser
    with torch.no_grad():
        sinusoid = unet.time_proj(timesteps.to(unet.device)).to(unet.dtype)
        embedding = unet.time_embedding(sinusoid).float()
    # Every ResnetBlock2D applies SiLU to the same embedding before its own projection, unless the embedding did.
    return F.silu(embedding) if unet.time_embedding.post_act is None else embedding


TOKENS = 77  # of CLIP's text encoders


def text_arguments(pipeline: Any, prompts: list[str]) -> dict[str, Any]:
    """The pipeline's arguments for `prompts`; random embeddings where it has no text encoder."""
    if pipeline.text_encoder is not None:
        return {"prompt": prompts}
    unet = pipeline.unet
    weight = next(unet.parameters())  # whichever is left of them in a quantized denoiser
    text, empty = (
        random_embeddings(texts, TOKENS, unet.config.cross_attention_dim, like=weight)
        for texts in (prompts, [""] * len(prompts))
    )
    return {"prompt_embeds": text, "negative_prompt_embeds": empty}


def video_unet_call(adapter: ModelAdapter, denoiser: nn.Module, entries: int) -> dict[str, Any]:
    """One call of a video U-Net at the adapter's geometry, for `ModelAdapter.example_call`."""
    config: Any = denoiser.config
    dtype, side = next(denoiser.parameters()).dtype, latent_side(adapter)
    return {
        "sample": torch.randn(entries, config.in_channels, adapter.num_frames, side, side).to(dtype),
        "timestep": torch.full((entries,), 500),
        "encoder_hidden_states": torch.randn(entries, TOKENS, config.cross_attention_dim).to(dtype),
    }
