"""Train the embedded AnimateDiff: `python -m experiments.training.animatediff`.

As the original is made (arXiv 2307.04725): first an image UNet on single frames, then, with it frozen, motion modules
on clips. Text is encoded by the frozen text encoder of tiny_modelscope.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AnimateDiffPipeline, AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.training.card import ship
from experiments.training.denoiser import UNCONDITIONAL_SHARE, build_scheduler, denoising_loss
from experiments.training.latents import LatentBank, latent_bank
from experiments.training.loop import TrainingConfig, fit
from experiments.training.options import DenoiserOptions
from qvd.graph.attention import explicit_attention_

BASE = Path("qvd/models/weights/tiny_modelscope")
OUTPUT = Path("qvd/models/weights/tiny_animatediff")
PURPOSE = """A text-to-video latent diffusion model of {parameters:.2f} M parameters, trained by this project on its
procedural dataset `shapes`: an image UNet, and motion modules trained on top of it while it was frozen. It has
AnimateDiff's pipeline and layer types at a size that runs on a laptop; it is a test bed for quantization and says
nothing about AnimateDiff's own quality."""
WIDTHS = (32, 64)


@dataclass(frozen=True)
class AnimateDiffOptions(DenoiserOptions):
    """Options of the two trainings, whose batches are of frames and of clips.

    Attributes:
        base: folder of the pipeline with the autoencoder and the text encoder.
    """

    image_steps: int = 4000
    image_batch: int = 64
    motion_steps: int = 3000
    motion_batch: int = 16
    base: Path = BASE
    output: Path = OUTPUT


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


def train_image_unet(options: AnimateDiffOptions, bank: LatentBank, prompts: Prompts) -> UNet2DConditionModel:
    """The EMA weights of the image UNet."""
    torch.manual_seed(options.seed)
    unet = build_image_unet().eval()
    explicit_attention_(unet)

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = bank.draw(options.image_batch, generator)
        frame = torch.randint(bank.latents.shape[2], (len(index),), generator=generator)
        text = prompts.draw(index, generator)
        clean = bank.latents[index, :, frame]
        return denoising_loss(clean, lambda x, t: unet(x, t, text).sample, options.high_noise_share, generator)

    config = TrainingConfig(options.image_steps, learning_rate=2e-3, warmup=200, ema_decay=0.998, seed=options.seed)
    return fit(unet, loss_function, config, options.work_dir / "animatediff_image.pt").eval()


def train_motion_modules(
    image_unet: UNet2DConditionModel, options: AnimateDiffOptions, bank: LatentBank, prompts: Prompts
) -> UNetMotionModel:
    """The image UNet with trained (EMA) motion modules; its own weights are unchanged."""
    torch.manual_seed(options.seed + 1)
    unet = UNetMotionModel.from_unet2d(image_unet, build_motion_adapter()).eval()
    unet.freeze_unet2d_params()
    explicit_attention_(unet)

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = bank.draw(options.motion_batch, generator)
        clean = bank.latents[index]
        text = prompts.draw(index, generator).repeat_interleave(clean.shape[2], dim=0)
        return denoising_loss(clean, lambda x, t: unet(x, t, text).sample, options.high_noise_share, generator)

    config = TrainingConfig(options.motion_steps, learning_rate=2e-3, warmup=200, ema_decay=0.998, seed=options.seed)
    return fit(unet, loss_function, config, options.work_dir / "animatediff_motion.pt").eval()


def save(unet: UNetMotionModel, base: Path, output: Path, facts: dict[str, str]) -> None:
    """Ship the trained UNet with the autoencoder and the text encoder at `base`."""
    pipeline = AnimateDiffPipeline(
        vae=AutoencoderKL.from_pretrained(base / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"),
        unet=unet,
        motion_adapter=None,
        scheduler=build_scheduler(),
    )
    ship(pipeline, output, PURPOSE, facts)


def main() -> None:
    options = AnimateDiffOptions.from_command_line(__doc__)
    bank = latent_bank(options.clips, options.work_dir, options.base / "vae")
    prompts = Prompts(options.base, bank.captions)
    unet = train_motion_modules(train_image_unet(options, bank, prompts), options, bank, prompts)
    facts = {
        "classes": "AnimateDiffPipeline: AutoencoderKL, CLIPTextModel, UNetMotionModel, DDIMScheduler",
        "data": f"`qvd.data.shapes`, split `train`, the first {options.clips} clips of 8 frames of 32×32 pixels",
        "autoencoder, text encoder": "those of tiny_modelscope, frozen",
        "training": f"{options.image_steps} steps of {options.image_batch} frames, then {options.motion_steps} steps "
        f"of {options.motion_batch} clips",
        "objective": "v-prediction, zero terminal SNR, 12 % empty prompts, EMA 0.998",
        **options.facts("animatediff", "animatediff_image.pt", "animatediff_motion.pt"),
    }
    save(unet, options.base, options.output, facts)


if __name__ == "__main__":
    main()
