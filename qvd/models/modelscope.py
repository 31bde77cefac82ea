"""ModelScope text-to-video: diffusers' TextToVideoSDPipeline and its UNet3DConditionModel."""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer

from qvd.models.unets import UNetAdapter


class ModelScope(UNetAdapter):
    """Adapter of the ModelScope T2V family (full size: `damo-vilab/text-to-video-ms-1.7b`)."""

    pipeline_name = "TextToVideoSDPipeline"
    text_parameters = 340_000_000  # OpenCLIP-H
    block_types = (ResnetBlock2D, TemporalConvLayer, BasicTransformerBlock)

    @property
    def denoiser_class(self) -> Any:
        return diffusers.UNet3DConditionModel
