"""Folders in the hub's layout with the smallest network of every family that has all its layer types.

Weights are random. The families' full-size configs read them with the words of `saved`.
"""

import torch
from diffusers import (
    AutoencoderKL,
    LattePipeline,
    LatteTransformer3DModel,
    MotionAdapter,
    StableDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
)
from torch import nn

from experiments.training import latte
from experiments.training.denoiser import TEXT_WIDTH, build_scheduler, build_text_encoder
from qvd.data.shapes import all_captions
from qvd.models.latte_network import ClassLatte
from qvd.models.latte_pipeline import ClassLattePipeline
from qvd.models.tokenizer import build_caption_tokenizer

FRAMES, SIDE = 2, 16  # of a video; latents have half the side
UNET = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": TEXT_WIDTH}


def randomised(module):
    """Zero-initialised weights (gates, outputs) hide what is behind them: give them values."""
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return module


def autoencoder():
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=(4, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )


def clip_parts():
    tokenizer = build_caption_tokenizer(all_captions())
    return autoencoder(), build_text_encoder(tokenizer), tokenizer


def save_modelscope(folder):
    unet = UNet3DConditionModel(
        **UNET, down_block_types=("DownBlock3D",), up_block_types=("UpBlock3D",), attention_head_dim=4
    )
    TextToVideoSDPipeline(*clip_parts(), randomised(unet), build_scheduler()).save_pretrained(folder)
    return ["model=modelscope", f"model.path={folder}"]


def save_animatediff(folder):
    """An image pipeline and, beside it, motion modules: the two folders that the released family has."""
    unet = UNet2DConditionModel(
        **UNET, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), attention_head_dim=2
    )
    motion = MotionAdapter(
        block_out_channels=(8,), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4
    )
    image = StableDiffusionPipeline(*clip_parts(), randomised(unet), build_scheduler(), None, None, None, False)
    image.save_pretrained(folder / "image")
    randomised(motion).save_pretrained(folder / "motion")
    return ["model=animatediff", f"model.path={folder}/image", f"model.motion_adapter={folder}/motion"]


def save_latte(folder):
    tokenizer = latte.build_tokenizer()
    transformer = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        attention_bias=True,
        sample_size=SIDE // 2,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=TEXT_WIDTH,
        video_length=FRAMES,
    )
    parts = (latte.build_text_encoder(tokenizer), autoencoder(), randomised(transformer), build_scheduler())
    LattePipeline(tokenizer, *parts).save_pretrained(folder)
    return ["model=latte", f"model.path={folder}"]


def save_class_latte(folder):
    network = ClassLatte(
        sample_size=SIDE // 2, hidden_size=16, depth=2, num_heads=2, mlp_ratio=2.0, num_frames=FRAMES, num_classes=240
    )
    ClassLattePipeline(autoencoder(), randomised(network), build_scheduler()).save_pretrained(folder)
    words = ["model=latte_ucf101", f"model.path={folder}", "model.classes=shapes", "model.scheduler=null"]
    return [*words, "model.checkpoint=null", "model.vae=null", "model.vae_revision=null"]


FAMILIES = {
    "modelscope": save_modelscope,
    "animatediff": save_animatediff,
    "latte": save_latte,
    "class_latte": save_class_latte,
}


def saved(family, folder):
    """Save a family's pipeline; the command-line words that its config reads it with."""
    torch.manual_seed(0)
    geometry = [f"model.num_frames={FRAMES}", f"model.resolution={SIDE}", "model.num_inference_steps=2"]
    return [*FAMILIES[family](folder), "model.architecture=null", "model.revision=null", *geometry]
