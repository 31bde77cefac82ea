"""Put the trained parts together as a diffusers pipeline with a card: `python -m experiments.training.assemble`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, TextToVideoSDPipeline, UNet3DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.training.card import ship
from experiments.training.denoiser import build_scheduler
from experiments.training.loop import training_time

OUTPUT = Path("qvd/models/weights/tiny_modelscope")
PURPOSE = """A text-to-video latent diffusion model of {parameters:.2f} M parameters, trained by this project on its
procedural dataset `shapes`. It has ModelScope T2V's pipeline and layer types at a size that runs on a laptop; it is a
test bed for quantization and says nothing about ModelScope's own quality."""


def assemble(work_dir: Path, output: Path, history: str) -> None:
    """Save the pipeline in fp16 safetensors in the hub's layout, with README.md as its card.

    Args:
        work_dir: where the training commands left the parts.
        output: folder of the pipeline.
        history: how the denoiser was trained, in words, for the card.
    """
    pipeline = TextToVideoSDPipeline(
        vae=AutoencoderKL.from_pretrained(work_dir / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(work_dir / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work_dir / "tokenizer"),
        unet=UNet3DConditionModel.from_pretrained(work_dir / "unet"),
        scheduler=build_scheduler(),
    )
    vae_steps = _steps(work_dir / "autoencoder.pt")
    facts = {
        "classes": "TextToVideoSDPipeline: AutoencoderKL, CLIPTextModel, UNet3DConditionModel, DDIMScheduler",
        "data": "`qvd.data.shapes`, split `train`, 8 frames of 32×32 pixels",
        "autoencoder": f"{vae_steps} steps: `python -m experiments.training.autoencoder --steps {vae_steps}`",
        "denoiser, text encoder": history,
        "objective": "v-prediction, zero terminal SNR, 12 % empty prompts, EMA 0.998",
        "training time": training_time(work_dir / "autoencoder.pt", work_dir / "denoiser.pt"),
        "seed": "0",
        "made by": "`python -m experiments.training.assemble`",
    }
    ship(pipeline, output, PURPOSE, facts)


def _steps(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, default=Path("outputs/training"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--history", help="how the denoiser was trained, if not by one command")
    arguments = parser.parse_args()
    steps = _steps(arguments.work_dir / "denoiser.pt")
    history = arguments.history or f"{steps} steps: `python -m experiments.training.denoiser --steps {steps}`"
    assemble(arguments.work_dir, arguments.output, history)


if __name__ == "__main__":
    main()
