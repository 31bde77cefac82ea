"""ModelScope text-to-video: diffusers' TextToVideoSDPipeline and its UNet3DConditionModel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qvd.models.base import BoundaryLayers, ModelAdapter, silence_loading

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn


@dataclass(frozen=True)
class ModelScope(ModelAdapter):
    """Adapter of the ModelScope T2V family (full size: `damo-vilab/text-to-video-ms-1.7b`)."""

    def load_pipeline(self, device: str) -> DiffusionPipeline:
        import torch
        from diffusers import TextToVideoSDPipeline

        silence_loading()
        pipeline = TextToVideoSDPipeline.from_pretrained(self.folder(), dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.requires_grad_(False).eval()
        return pipeline.to(device)

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
        import torch

        frames = pipeline(
            prompts,
            height=self.resolution,
            width=self.resolution,
            num_frames=self.num_frames,
            num_inference_steps=num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generators,
            output_type="pt",
        ).frames
        return (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu()

    def timesteps(self, pipeline: DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        pipeline.scheduler.set_timesteps(num_inference_steps)
        return pipeline.scheduler.timesteps.clone()

    def temporal_feature_sites(self, denoiser: nn.Module) -> list[str]:
        return [name for name, _ in denoiser.named_modules() if name.endswith(".time_emb_proj")]

    def temporal_features(self, denoiser: nn.Module, timesteps: torch.Tensor) -> dict[str, torch.Tensor]:
        import torch
        from torch.nn import functional as F

        network: Any = denoiser
        with torch.no_grad():
            sinusoid = network.time_proj(timesteps).to(network.dtype)
            # Every ResnetBlock2D applies SiLU to the same embedding before its own projection.
            features = F.silu(network.time_embedding(sinusoid)).float()
        return dict.fromkeys(self.temporal_feature_sites(denoiser), features)

    def boundary_layers(self, denoiser: nn.Module) -> BoundaryLayers:
        return BoundaryLayers(
            first=["conv_in"], last=["conv_out"], embedders=["time_embedding.linear_1", "time_embedding.linear_2"]
        )
