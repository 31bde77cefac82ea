"""AnimateDiff: diffusers' AnimateDiffPipeline and its UNetMotionModel."""

from __future__ import annotations

from typing import Any

import diffusers
from accelerate import init_empty_weights
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from qvd.models.integrity import Part
from qvd.models.random_init import empty_part
from qvd.models.unets import UNetAdapter
from qvd.options.hub import MODELS, read_json
from qvd.options.model import AnimateDiffOptions


class AnimateDiff(AnimateDiffOptions, UNetAdapter):
    """Adapter of the AnimateDiff family (full size: SD 1.5 with `guoyww/animatediff-motion-adapter-v1-5-2`)."""

    pipeline_name = "AnimateDiffPipeline"
    text_parameters = 123_000_000  # CLIP-L
    block_types = (ResnetBlock2D, BasicTransformerBlock)
    separate_parts = ("motion_adapter",)
    absent_parts = (*UNetAdapter.absent_parts, "motion_adapter")

    @property
    def denoiser_class(self) -> Any:
        return diffusers.UNetMotionModel

    def parts(self) -> dict[str, Part]:
        parts, where = super().parts(), f"model.motion_adapter={self.motion_adapter}"
        if parts["unet"].cls is self.denoiser_class:
            if self.motion_adapter is not None:
                raise ValueError(
                    f"{where}: must be null, the unet of model.path={self.path} has its own motion modules"
                )
            return parts
        folder = self.part_folder("motion_adapter")
        if folder is None:
            raise ValueError(
                f"{where}: the unet of model.path={self.path} has no motion modules; name a folder of some"
            )
        motion = Part(diffusers.MotionAdapter, folder, where)
        motion.check()
        # Stable Diffusion's own sampler is another; this is the motion modules' (their card).
        sampler = Part(diffusers.DDIMScheduler, MODELS / "architectures" / "animatediff" / "scheduler", where)
        return {**parts, "motion_adapter": motion, "scheduler": sampler}

    def empty_denoiser(self) -> nn.Module:
        folder = self.config_folder()
        if read_json(folder / self.part / "config.json").get("_class_name") == self.denoiser_class.__name__:
            return super().empty_denoiser()
        image = empty_part(diffusers.UNet2DConditionModel, folder / self.part)
        apart = self.part_folder("motion_adapter") if self.architecture is None else None
        motion = empty_part(diffusers.MotionAdapter, apart or folder / "motion_adapter")
        with init_empty_weights(include_buffers=False):
            return self.denoiser_class.from_unet2d(image, motion, load_weights=False)

    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        call = super().example_call(denoiser, entries)
        # This family's text is given once for every frame.
        text = call["encoder_hidden_states"].repeat_interleave(self.num_frames, dim=0)
        return {**call, "encoder_hidden_states": text}
