"""Latte text-to-video: diffusers' LattePipeline and its LatteTransformer3DModel."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, LattePipeline, LatteTransformer3DModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn
from transformers import T5EncoderModel, T5Tokenizer

from qvd.graph.anatomy import BoundaryLayers
from qvd.models.base import ModelAdapter
from qvd.models.parts import decode_video, torch_dtype
from qvd.models.random_init import empty_part, latent_side, random_embeddings, random_parts

EMBEDDER = "adaln_single.emb.timestep_embedder"
MAX_TOKENS = 120  # the pipeline's own limit


class Latte(ModelAdapter):
    """Adapter of the Latte T2V family (full size: `maxin-cn/Latte-1`)."""

    boundary = BoundaryLayers(
        first=("pos_embed.proj",), last=("proj_out",), embedders=(f"{EMBEDDER}.linear_1", f"{EMBEDDER}.linear_2")
    )
    block_types = (BasicTransformerBlock,)
    temporal_suffix = "adaln_single.linear"
    text_parameters = 4_762_000_000  # T5-XXL

    def pretrained_pipeline(self) -> DiffusionPipeline:
        return LattePipeline.from_pretrained(self.folder(), dtype=torch_dtype(self.dtype))

    def random_pipeline(self) -> DiffusionPipeline:
        return LattePipeline(**random_parts(self, "transformer"), text_encoder=None, tokenizer=None)

    def empty_denoiser(self) -> nn.Module:
        return empty_part(LatteTransformer3DModel, self.config_folder() / "transformer")

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        config: Any = denoiser.config
        dtype, side = next(denoiser.parameters()).dtype, latent_side(self)
        return {
            "hidden_states": torch.randn(entries, config.in_channels, self.num_frames, side, side).to(dtype),
            "timestep": torch.full((entries,), 500),
            "encoder_hidden_states": torch.randn(entries, MAX_TOKENS, config.caption_channels).to(dtype),
        }

    def denoiser(self, pipeline: DiffusionPipeline) -> nn.Module:
        return pipeline.transformer

    def set_denoiser_(self, pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
        pipeline.transformer = denoiser

    def sample(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        generators: list[torch.Generator],
        num_inference_steps: int,
    ) -> torch.Tensor:
        text, empty = (prompt_embeddings(pipeline, texts) for texts in (prompts, [""] * len(prompts)))
        latents = pipeline(
            prompt_embeds=text,
            negative_prompt=None,
            negative_prompt_embeds=empty,
            height=self.resolution,
            width=self.resolution,
            video_length=self.num_frames,
            num_inference_steps=num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generators,
            output_type="latent",
            clean_caption=False,
        ).frames
        return decode_video(pipeline.vae, latents, self.decode_chunk_size)

    def timesteps(self, pipeline: DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        pipeline.scheduler.set_timesteps(num_inference_steps)
        return pipeline.scheduler.timesteps.clone()

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


def text_embeddings(tokenizer: T5Tokenizer, encoder: T5EncoderModel, texts: list[str]) -> torch.Tensor:
    """(B, tokens, C): as the pipeline for several prompts, T5's embeddings with those of padding set to zero; all those
    of "" are kept."""
    length = min(MAX_TOKENS, tokenizer.model_max_length)
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    encoded = encoded.to(encoder.device)
    embeddings = encoder(encoded.input_ids, attention_mask=encoded.attention_mask)[0]
    visible = encoded.attention_mask.bool()
    worded = torch.tensor([bool(text) for text in texts], device=embeddings.device)
    return embeddings * (visible | ~worded[:, None])[:, :, None]
