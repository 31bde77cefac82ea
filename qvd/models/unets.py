"""What the adapters of diffusers' U-Nets share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from qvd.graph.anatomy import BoundaryLayers
from qvd.models.base import ModelAdapter
from qvd.models.random_init import random_embeddings, random_input

TOKENS = 77  # of CLIP's text encoders


class UNetAdapter(ModelAdapter):
    """Base of a family whose denoiser is a U-Net over latents (B, C, T, h, w), with text by cross-attention."""

    part = "unet"
    boundary = BoundaryLayers(
        first=("conv_in",), last=("conv_out",), embedders=("time_embedding.linear_1", "time_embedding.linear_2")
    )
    temporal_suffix = ".time_emb_proj"

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        config: Any = denoiser.config
        side = self.latent_side
        return {
            "sample": random_input(denoiser, entries, config.in_channels, self.num_frames, side, side),
            "timestep": torch.full((entries,), 500),
            "encoder_hidden_states": random_input(denoiser, entries, TOKENS, config.cross_attention_dim),
        }

    def draw(self, pipeline: Any, prompts: list[str], **sampling: Any) -> torch.Tensor:
        size = {"height": self.resolution, "width": self.resolution, "num_frames": self.num_frames}
        text = _text(pipeline, prompts, [self.negative_prompt] * len(prompts))
        return pipeline(**text, **size, output_type="latent", **sampling).frames

    def temporal_feature(self, denoiser: nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
        unet: Any = denoiser
        with torch.no_grad():
            sinusoid = unet.time_proj(timesteps.to(unet.device)).to(unet.dtype)
            embedding = unet.time_embedding(sinusoid).float()
        # Every ResnetBlock2D applies SiLU to the same embedding before its own projection, unless the embedding did.
        return F.silu(embedding) if unet.time_embedding.post_act is None else embedding

    def shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        """Of a residual block only `conv_shortcut` reads one: `conv1` reads it through a GroupNorm, after which the two
        parts no longer differ in scale (Q-Diffusion, arXiv 2302.04304, §3.3, splits the shortcut likewise)."""
        unet: Any = denoiser
        names = {id(module): name for name, module in denoiser.named_modules()}
        channels = unet.mid_block.resnets[-1].out_channels
        split = {}
        for block in unet.up_blocks:
            for resnet in block.resnets:
                split[names[id(resnet.conv_shortcut)]] = channels
                channels = resnet.out_channels
        return split


def _text(pipeline: Any, prompts: list[str], negative: list[str]) -> dict[str, Any]:
    """The pipeline's arguments for `prompts`, away from `negative`; random embeddings where it has no text encoder."""
    if pipeline.text_encoder is not None:
        return {"prompt": prompts, "negative_prompt": negative}
    unet = pipeline.unet
    weight = next(unet.parameters())  # whichever is left of them in a quantized denoiser
    text, other = (
        random_embeddings(texts, TOKENS, unet.config.cross_attention_dim, like=weight) for texts in (prompts, negative)
    )
    return {"prompt_embeds": text, "negative_prompt_embeds": other}
