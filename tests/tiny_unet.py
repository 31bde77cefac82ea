"""A random tiny UNet3D in the shape of the shipped model, and a test double of its adapter."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from torch.nn import functional as F

from qvd.calibration.calibration_set import CalibrationSet
from qvd.graph.anatomy import BoundaryLayers
from qvd.graph.units import units_of_types
from qvd.models.unets import skip_concatenations


class UNet3DAdapter:
    """The part of a model adapter that quantization methods ask for, over a bare UNet3DConditionModel."""

    num_frames = 8

    def temporal_feature_sites(self, denoiser):
        return [name for name, _ in denoiser.named_modules() if name.endswith("time_emb_proj")]

    @torch.no_grad()
    def temporal_features(self, denoiser, timesteps):
        features = F.silu(denoiser.time_embedding(denoiser.time_proj(timesteps)))
        return dict.fromkeys(self.temporal_feature_sites(denoiser), features)

    def boundary_layers(self, denoiser):
        embedders = ["time_embedding.linear_1", "time_embedding.linear_2"]
        return BoundaryLayers(first=["conv_in"], last=["conv_out"], embedders=embedders)

    def reconstruction_blocks(self, denoiser, granularity):
        types = (ResnetBlock2D, TemporalConvLayer, BasicTransformerBlock)
        return units_of_types(denoiser, granularity, types)

    def split_shortcuts(self, denoiser):
        return skip_concatenations(denoiser)


def tiny_unet3d(seed=0):
    """A UNet3D with random norm affines and non-zero temporal convolutions, so that nothing is trivially foldable."""
    from diffusers import UNet3DConditionModel

    torch.manual_seed(seed)
    unet = UNet3DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    for name, module in unet.named_modules():
        if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.3, 2.0)
            torch.nn.init.normal_(module.bias, std=0.7)
        elif name.endswith("conv4.3") and not name.startswith("mid_block"):
            torch.nn.init.normal_(module.weight, std=0.05)
    return unet.eval().requires_grad_(False)


def tiny_calibration(entries=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return CalibrationSet.from_tensors(
        {
            "sample": torch.randn(entries, 4, 8, 8, 8, generator=generator),
            "timestep": torch.randint(0, 1000, (entries,), generator=generator),
            "encoder_hidden_states": torch.randn(entries, 6, 64, generator=generator),
        }
    )


@pytest.fixture(scope="session")
def unet():
    return tiny_unet3d()


@pytest.fixture(scope="session")
def calibration():
    return tiny_calibration()


@pytest.fixture(scope="session")
def adapter():
    return UNet3DAdapter()


@pytest.fixture(scope="session")
def ranges(unet, calibration):
    from qvd.calibration.observe import observe

    return observe(unet, calibration, batch_size=4)
