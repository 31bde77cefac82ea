"""AnimateDiff: diffusers' AnimateDiffPipeline and its UNetMotionModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AnimateDiffPipeline, DiffusionPipeline, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from qvd.models.base import ModelAdapter
from qvd.models.hub import find_folder
from qvd.models.parts import decode_video, torch_dtype
from qvd.models.random_init import empty_part, random_parts, read_config, read_scheduler
from qvd.models.unets import BOUNDARY, skip_concatenations, text_arguments, time_embedding_feature, video_unet_call
from qvd.options.model import AnimateDiffOptions


class AnimateDiff(AnimateDiffOptions, ModelAdapter):
    """Adapter of the AnimateDiff family (full size: SD 1.5 with `guoyww/animatediff-motion-adapter-v1-5-2`)."""

    boundary = BOUNDARY
    block_types = (ResnetBlock2D, BasicTransformerBlock)
    temporal_suffix = ".time_emb_proj"
    text_parameters = 123_000_000  # CLIP-L
    beside_the_denoiser = (*ModelAdapter.beside_the_denoiser, "motion_adapter", "motion_adapter_revision")

    def folders(self) -> list[Path]:
        return [self.folder(), *([self._motion_folder()] if self.motion_adapter else [])]

    def _motion_folder(self) -> Path:
        assert self.motion_adapter is not None
        revision = self.motion_adapter_revision
        return find_folder(self.motion_adapter, revision, False, "config.json", option="model.motion_adapter")

    def pretrained_pipeline(self) -> DiffusionPipeline:
        dtype, parts = torch_dtype(self.dtype), {}
        if self.motion_adapter is not None:
            parts["motion_adapter"] = MotionAdapter.from_pretrained(self._motion_folder(), dtype=dtype)
            # Stable Diffusion's own sampler is another; this is the motion modules' (their card).
            parts["scheduler"] = read_scheduler(Path(__file__).parent / "architectures" / "animatediff")
        return AnimateDiffPipeline.from_pretrained(self.folder(), dtype=dtype, **parts)

    def random_pipeline(self) -> DiffusionPipeline:
        parts = random_parts(self, "unet")
        return AnimateDiffPipeline(**parts, text_encoder=None, tokenizer=None, motion_adapter=None)

    def empty_denoiser(self) -> nn.Module:
        folder = self.config_folder()
        if read_config(folder / "unet")["_class_name"] == "UNetMotionModel":
            return empty_part(UNetMotionModel, folder / "unet")
        image = empty_part(UNet2DConditionModel, folder / "unet")
        apart = self.architecture is None and self.motion_adapter is not None
        motion = empty_part(MotionAdapter, self._motion_folder() if apart else folder / "motion_adapter")
        with init_empty_weights(include_buffers=False):
            return UNetMotionModel.from_unet2d(image, motion, load_weights=False)

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        call = video_unet_call(self, denoiser, entries)
        # This family's text is given once for every frame.
        text = call["encoder_hidden_states"].repeat_interleave(self.num_frames, dim=0)
        return {**call, "encoder_hidden_states": text}

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
