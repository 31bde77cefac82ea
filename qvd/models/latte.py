"""Latte text-to-video: diffusers' LattePipeline and its LatteTransformer3DModel."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from qvd.graph.anatomy import BoundaryLayers
from qvd.models.dits import DiTAdapter
from qvd.models.random_init import random_embeddings, random_input

EMBEDDER = "adaln_single.emb.timestep_embedder"
MAX_TOKENS = 120  # the pipeline's own limit


class Latte(DiTAdapter):
    """Adapter of the Latte T2V family (full size: `maxin-cn/Latte-1`)."""

    pipeline_name = "LattePipeline"
    text_parameters = 4_762_000_000  # T5-XXL
    block_types = (BasicTransformerBlock,)
    boundary = BoundaryLayers(
        first=("pos_embed.proj",), last=("proj_out",), embedders=(f"{EMBEDDER}.linear_1", f"{EMBEDDER}.linear_2")
    )
    temporal_suffix = "adaln_single.linear"
    max_tokens = MAX_TOKENS

    @property
    def denoiser_class(self) -> Any:
        return diffusers.LatteTransformer3DModel

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        config: Any = denoiser.config
        side = self.latent_side
        return {
            "hidden_states": random_input(denoiser, entries, config.in_channels, self.num_frames, side, side),
            "timestep": torch.full((entries,), 500),
            "encoder_hidden_states": random_input(denoiser, entries, MAX_TOKENS, config.caption_channels),
        }

    def draw(self, pipeline: Any, prompts: list[str], **sampling: Any) -> torch.Tensor:
        negative = [self.negative_prompt] * len(prompts)
        text, other = (prompt_embeddings(pipeline, texts) for texts in (prompts, negative))
        return pipeline(
            prompt_embeds=text,
            negative_prompt=None,
            negative_prompt_embeds=other,
            height=self.resolution,
            width=self.resolution,
            video_length=self.num_frames,
            output_type="latent",
            clean_caption=False,
            **sampling,
        ).frames

    def temporal_feature(self, denoiser: nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
        network: Any = denoiser.get_submodule("adaln_single")
        with torch.no_grad():
            weight = network.emb.timestep_embedder.linear_1.weight
            sinusoid = network.emb.time_proj(timesteps.to(weight.device)).to(weight.dtype)
            return network.silu(network.emb.timestep_embedder(sinusoid)).float()


def prompt_embeddings(pipeline: Any, prompts: list[str]) -> torch.Tensor:
    """(B, tokens, C) of a fixed length: the pipeline crops a single prompt to its tokens but pads several, so that a
    sample would depend on its batch."""
    if pipeline.text_encoder is None:
        channels, weight = pipeline.transformer.config.caption_channels, next(pipeline.transformer.parameters())
        return random_embeddings(prompts, MAX_TOKENS, channels, like=weight)
    return text_embeddings(pipeline.tokenizer, pipeline.text_encoder, prompts)


def text_embeddings(
    tokenizer: transformers.T5Tokenizer, encoder: transformers.T5EncoderModel, texts: list[str]
) -> torch.Tensor:
    """(B, tokens, C): as the pipeline for several prompts, T5's embeddings with those of padding set to zero; all those
    of "" are kept."""
    length = min(MAX_TOKENS, tokenizer.model_max_length)
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    encoded = encoded.to(encoder.device)
    embeddings = encoder(encoded.input_ids, attention_mask=encoded.attention_mask)[0]
    visible = encoded.attention_mask.bool()
    worded = torch.tensor([bool(text) for text in texts], device=embeddings.device)
    return embeddings * (visible | ~worded[:, None])[:, :, None]
