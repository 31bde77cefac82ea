"""Denoisers of every architecture at random tiny sizes, with random affines so that nothing is trivially foldable."""

import torch
from diffusers import LatteTransformer3DModel, UNet3DConditionModel, UNetMotionModel
from hypothesis import strategies as st
from torch import nn

from qvd.models.latte_network import ClassLatte


def unet3d(width, heads, frames, text):
    model = UNet3DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=text,
        attention_head_dim=width // heads,
        norm_num_groups=4,
    )
    return model, {"sample": torch.randn(2, 4, frames, 8, 8), **_conditions(text)}


def unet_motion(width, heads, frames, text):
    model = UNetMotionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=text,
        num_attention_heads=heads,
        motion_num_attention_heads=heads,
        norm_num_groups=4,
    )
    conditions = _conditions(text)
    conditions["encoder_hidden_states"] = conditions["encoder_hidden_states"].repeat_interleave(frames, dim=0)
    return model, {"sample": torch.randn(2, 4, frames, 8, 8), **conditions}


def latte(width, heads, frames, text):
    model = LatteTransformer3DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=width,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=text,
        video_length=frames,
    )
    return model, {"hidden_states": torch.randn(2, 4, frames, 8, 8), **_conditions(text)}


def class_latte(width, heads, frames, text):
    model = ClassLatte(
        sample_size=8, hidden_size=width, depth=2, num_heads=heads, mlp_ratio=2.0, num_frames=frames, num_classes=text
    )
    sample = torch.randn(2, frames, 4, 8, 8)
    return model, {"sample": sample, "timestep": torch.tensor([7, 801]), "class_labels": torch.tensor([0, text])}


def _conditions(text):
    return {"timestep": torch.tensor([7, 801]), "encoder_hidden_states": torch.randn(2, 5, text)}


ARCHITECTURES = {build.__name__: build for build in (unet3d, unet_motion, latte, class_latte)}
SIZES = st.fixed_dictionaries(
    {
        "width": st.sampled_from([16, 32]),
        "heads": st.sampled_from([2, 4]),
        "frames": st.integers(2, 4),
        "text": st.sampled_from([8, 12]),
    }
)


def build(architecture, seed=0, **sizes):
    """(denoiser, one call of its forward) in eval mode; norms get scattered affines, zeroed layers random weights."""
    torch.manual_seed(seed)
    model, example = ARCHITECTURES[architecture](**sizes)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.3, 2.0)
            nn.init.normal_(module.bias, std=0.7)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
    return model.eval().requires_grad_(False), example
