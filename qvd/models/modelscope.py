"""ModelScope text-to-video: diffusers' TextToVideoSDPipeline and its UNet3DConditionModel."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, TextToVideoSDPipeline, UNet3DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from torch import nn

from qvd.models.base import ModelAdapter
from qvd.models.parts import decode_video, torch_dtype
from qvd.models.random_init import empty_part, random_parts
from qvd.models.unets import BOUNDARY, skip_concatenations, text_arguments, time_embedding_feature, video_unet_call


class ModelScope(ModelAdapter):
    """Adapter of the ModelScope T2V family (full size: `damo-vilab/text-to-video-ms-1.7b`)."""

    boundary = BOUNDARY
    block_types = (ResnetBlock2D, TemporalConvLayer, BasicTransformerBlock)
    temporal_suffix = ".time_emb_proj"
    text_parameters = 340_000_000  # OpenCLIP-H

    def pretrained_pipeline(self) -> DiffusionPipeline:
        return TextToVideoSDPipeline.from_pretrained(self.folder(), dtype=torch_dtype(self.dtype))

    def random_pipeline(self) -> DiffusionPipeline:
        return TextToVideoSDPipeline(**random_parts(self, "unet"), text_encoder=None, tokenizer=None)

    def empty_denoiser(self) -> nn.Module:
        return empty_part(UNet3DConditionModel, self.config_folder() / "unet")

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        return video_unet_call(self, denoiser, entries)

    def denoiser(self, pipeline: DiffusionPipeline) -> nn.Module:
        return pipeline.unet

    def set_denoiser_(self, pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
        pipeline.unet = denoiser

    def sample(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        generators: list[torch.Generator],
        num_inference_steps: int,
    ) -> torch.Tensor:
        latents = pipeline(
            **text_arguments(pipeline, prompts),
            height=self.resolution,
            width=self.resolution,
            num_frames=self.num_frames,
            num_inference_steps=num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generators,
            output_type="latent",
        ).frames
        return decode_video(pipeline.vae, latents, self.decode_chunk_size)

    def timesteps(self, pipeline: DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        pipeline.scheduler.set_timesteps(num_inference_steps)
        return pipeline.scheduler.timesteps.clone()

    def temporal_feature(self, denoiser: nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
        return time_embedding_feature(denoiser, timesteps)

    def shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        return skip_concatenations(denoiser)
