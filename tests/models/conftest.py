"""Hub-layout folders of every family, tiny and with random weights, made by the training commands' own builders."""

import pytest
import torch
from torch import nn

from experiments.training import animatediff, class_latte, latte
from experiments.training.autoencoder import build_autoencoder
from experiments.training.denoiser import build_scheduler, build_text_encoder, build_unet
from qvd.data.shapes import all_captions
from qvd.models.animatediff import AnimateDiff
from qvd.models.latte import Latte
from qvd.models.latte_class import ClassLatteAdapter
from qvd.models.modelscope import ModelScope
from qvd.models.tokenizer import build_caption_tokenizer
from qvd.options.model import Classes

GEOMETRY = {"num_frames": 8, "resolution": 32, "num_inference_steps": 10, "guidance_scale": 3.0, "batch_size": 16}


def randomised(module):
    """Zero-initialised weights (gates, outputs) hide what is behind them: give them values."""
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return module


def modelscope_pipeline():
    from diffusers import TextToVideoSDPipeline

    tokenizer = build_caption_tokenizer(all_captions())
    parts = (build_autoencoder(), build_text_encoder(tokenizer), tokenizer, randomised(build_unet()), build_scheduler())
    return TextToVideoSDPipeline(*parts)


def animatediff_pipeline():
    from diffusers import AnimateDiffPipeline

    tokenizer = build_caption_tokenizer(all_captions())
    text_encoder, motion = build_text_encoder(tokenizer), randomised(animatediff.build_motion_adapter())
    unet = randomised(animatediff.build_image_unet())
    return AnimateDiffPipeline(build_autoencoder(), text_encoder, tokenizer, unet, motion, build_scheduler())


def latte_pipeline():
    from diffusers import LattePipeline

    tokenizer = latte.build_tokenizer()
    text_encoder, transformer = latte.build_text_encoder(tokenizer), randomised(latte.build_transformer())
    return LattePipeline(tokenizer, text_encoder, build_autoencoder(), transformer, build_scheduler())


def class_latte_pipeline():
    from qvd.models.latte_pipeline import ClassLattePipeline

    return ClassLattePipeline(build_autoencoder(), randomised(class_latte.build_network()), build_scheduler())


FAMILIES = {
    "modelscope": (ModelScope, modelscope_pipeline, {}),
    "animatediff": (AnimateDiff, animatediff_pipeline, {}),
    "latte": (Latte, latte_pipeline, {}),
    "latte_class": (ClassLatteAdapter, class_latte_pipeline, {"classes": Classes.shapes}),
}


@pytest.fixture(scope="session")
def random_adapter(tmp_path_factory):
    """family → the adapter of its folder, saved on first use."""
    adapters = {}

    def adapter_of(family):
        if family not in adapters:
            adapter, build, options = FAMILIES[family]
            folder = tmp_path_factory.mktemp(family)
            torch.manual_seed(0)
            build().save_pretrained(folder)
            adapters[family] = adapter(path=str(folder), **GEOMETRY, **options)
        return adapters[family]

    return adapter_of
