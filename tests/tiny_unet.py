"""A random tiny UNet3D in the shape of the shipped model, and what its family's adapter says of it."""

import pytest
import torch

from qvd.calibration.calibration_set import CalibrationSet
from qvd.methods.base import QuantizationContext
from qvd.models.modelscope import ModelScope
from qvd.options.bits import Bits


def context_of(adapter, denoiser, bits, timesteps):
    """What a method is told of a run at `bits`."""
    return QuantizationContext(Bits.parse(bits), adapter.anatomy(denoiser), timesteps, adapter.temporal_features)


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
    return ModelScope(path="", num_frames=8, resolution=64, num_inference_steps=10, guidance_scale=1.0, batch_size=1)


@pytest.fixture(scope="session")
def ranges(unet, calibration):
    from qvd.calibration.observe import observe

    return observe(unet, calibration, batch_size=4)
