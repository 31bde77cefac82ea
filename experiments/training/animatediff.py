"""Train the embedded AnimateDiff: `python -m experiments.training.animatediff`.

As the original is made (arXiv 2307.04725): first an image UNet on single frames, then, with it frozen, motion modules
on clips. Text is encoded by the frozen text encoder of tiny_modelscope.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AnimateDiffPipeline, AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.training.card import write_card
from experiments.training.denoiser import UNCONDITIONAL_SHARE, build_scheduler, draw_timesteps
from experiments.training.latents import LatentBank, latent_bank
from experiments.training.loop import TrainingConfig, fit
from qvd.quant.attention import explicit_attention_

BASE = Path("qvd/models/weights/tiny_modelscope")
OUTPUT = Path("qvd/models/weights/tiny_animatediff")
PURPOSE = """A text-to-video latent diffusion model of {parameters:.2f} M parameters, trained by this project on its
procedural dataset `shapes`: an image UNet, and motion modules trained on top of it while it was frozen. It has
AnimateDiff's pipeline and layer types at a size that runs on a laptop; it is a test bed for quantization and says
nothing about AnimateDiff's own quality."""
WIDTHS = (32, 64)


@dataclass(frozen=True)
class Schedule:
    """Steps and batch of one of the two trainings; a batch is of frames, then of clips."""

    steps: int
    batch: int


def build_image_unet() -> UNet2DConditionModel:
    """Stable Diffusion 1.5's layer types at 0.9 M parameters, for 8×8 latents."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build_motion_adapter() -> MotionAdapter:
    """Motion modules of the released adapter's form (v1-5-2 has one in the middle block too)."""
    return MotionAdapter(
        block_out_channels=WIDTHS,
        motion_layers_per_block=2,
        motion_num_attention_heads=4,
        motion_norm_num_groups=8,
        motion_max_seq_length=8,
        use_motion_mid_block=True,
    )


class Prompts:
    """Text embeddings of the clips' captions, some of them emptied."""

    def __init__(self, base: Path, captions: list[str]) -> None:
        tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).eval()
        distinct = ["", *sorted(set(captions))]
        tokens = tokenizer(distinct, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            self.embeddings = encoder(tokens).last_hidden_state
        rows = {caption: row for row, caption in enumerate(distinct)}
        self.rows = torch.tensor([rows[caption] for caption in captions])

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """(B, tokens, C) for clips `index`, a share of them unconditional."""
        empty = torch.rand(len(index), generator=generator) < UNCONDITIONAL_SHARE
        return self.embeddings[torch.where(empty, 0, self.rows[index])]


def denoising_loss(
    clean: Tensor, predict: Callable[[Tensor, Tensor], Tensor], high_noise_share: float, generator: torch.Generator
) -> Tensor:
    """The v-prediction loss of `predict(noisy, timesteps)`."""
    scheduler = build_scheduler()
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = draw_timesteps(len(clean), scheduler.config.num_train_timesteps, high_noise_share, generator)
    predicted = predict(scheduler.add_noise(clean, noise, timesteps), timesteps)
    return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))


def train_image_unet(
    schedule: Schedule, bank: LatentBank, prompts: Prompts, work_dir: Path, seed: int, high_noise_share: float
) -> UNet2DConditionModel:
    """The EMA weights of the image UNet."""
    torch.manual_seed(seed)
    unet = build_image_unet().eval()
    explicit_attention_(unet)

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = bank.draw(schedule.batch, generator)
        frame = torch.randint(bank.latents.shape[2], (schedule.batch,), generator=generator)
        text = prompts.draw(index, generator)
        return denoising_loss(
            bank.latents[index, :, frame], lambda x, t: unet(x, t, text).sample, high_noise_share, generator
        )

    config = TrainingConfig(steps=schedule.steps, learning_rate=2e-3, warmup=200, ema_decay=0.998, seed=seed)
    return fit(unet, loss_function, config, work_dir / "animatediff_image.pt").eval()


def train_motion_modules(
    image_unet: UNet2DConditionModel,
    schedule: Schedule,
    bank: LatentBank,
    prompts: Prompts,
    work_dir: Path,
    seed: int,
    high_noise_share: float,
) -> UNetMotionModel:
    """The image UNet with trained (EMA) motion modules; its own weights are unchanged."""
    torch.manual_seed(seed + 1)
    unet = UNetMotionModel.from_unet2d(image_unet, build_motion_adapter()).eval()
    unet.freeze_unet2d_params()
    explicit_attention_(unet)

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = bank.draw(schedule.batch, generator)
        clean = bank.latents[index]
        text = prompts.draw(index, generator).repeat_interleave(clean.shape[2], dim=0)
        return denoising_loss(clean, lambda x, t: unet(x, t, text).sample, high_noise_share, generator)

    config = TrainingConfig(steps=schedule.steps, learning_rate=2e-3, warmup=200, ema_decay=0.998, seed=seed)
    return fit(unet, loss_function, config, work_dir / "animatediff_motion.pt").eval()


def save(unet: UNetMotionModel, base: Path, output: Path, facts: dict[str, str]) -> None:
    """Save the pipeline in fp16 safetensors in the hub's layout, with README.md as its card."""
    pipeline = AnimateDiffPipeline(
        vae=AutoencoderKL.from_pretrained(base / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"),
        unet=unet,
        motion_adapter=None,
        scheduler=build_scheduler(),
    )
    parts = (pipeline.vae, pipeline.text_encoder, pipeline.unet)
    parameters = sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6
    pipeline.to(dtype=torch.float16).save_pretrained(output, safe_serialization=True)
    write_card(output, output.name, PURPOSE.format(parameters=parameters), facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-steps", type=int, default=4000)
    parser.add_argument("--image-batch", type=int, default=64)
    parser.add_argument("--motion-steps", type=int, default=3000)
    parser.add_argument("--motion-batch", type=int, default=16)
    parser.add_argument("--clips", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--high-noise-share", type=float, default=0.5)
    parser.add_argument("--work-dir", type=Path, default=Path("outputs/training"))
    parser.add_argument("--base", type=Path, default=BASE, help="pipeline with the autoencoder and text encoder")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    a = parser.parse_args()
    bank = latent_bank(a.clips, a.work_dir, a.base / "vae")
    prompts = Prompts(a.base, bank.captions)
    image, motion = Schedule(a.image_steps, a.image_batch), Schedule(a.motion_steps, a.motion_batch)
    image_unet = train_image_unet(image, bank, prompts, a.work_dir, a.seed, a.high_noise_share)
    unet = train_motion_modules(image_unet, motion, bank, prompts, a.work_dir, a.seed, a.high_noise_share)
    facts = {
        "classes": "AnimateDiffPipeline: AutoencoderKL, CLIPTextModel, UNetMotionModel, DDIMScheduler",
        "data": f"`qvd.data.shapes`, split `train`, the first {a.clips} clips of 8 frames of 32×32 pixels",
        "autoencoder, text encoder": "those of tiny_modelscope, frozen",
        "training": f"{image.steps} steps of {image.batch} frames, then {motion.steps} steps of {motion.batch} clips: "
        f"`python -m experiments.training.animatediff --image-steps {image.steps} --image-batch {image.batch} "
        f"--motion-steps {motion.steps} --motion-batch {motion.batch} --clips {a.clips}`",
        "objective": "v-prediction, zero terminal SNR, 12 % empty prompts, EMA 0.998",
        "seed": str(a.seed),
    }
    save(unet, a.base, a.output, facts)


if __name__ == "__main__":
    main()
