"""Train the embedded text-to-video denoiser: `python -m experiments.training.denoiser`.

Needs the autoencoder of `experiments.training.autoencoder` in the work directory. The UNet and its small
CLIP text encoder are trained together (v-prediction, zero terminal SNR) on latents encoded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from experiments.training.data import ClipBank, to_model_range
from experiments.training.loop import TrainingConfig, fit, is_main_process, join_processes
from experiments.training.options import DenoiserOptions
from qvd.data.shapes import all_captions
from qvd.models.tokenizer import MAX_LENGTH, build_caption_tokenizer

TEXT_WIDTH = 64
CLIPS_PER_BATCH = 8
UNCONDITIONAL_SHARE = 0.12


@dataclass(frozen=True)
class ModelScopeOptions(DenoiserOptions):
    """Options of this training; `init_from`: folder with the unet and text_encoder to start from, if any."""

    steps: int = 8000
    init_from: str = ""


def build_unet() -> UNet3DConditionModel:
    """Every layer type of ModelScope's UNet3D, at 1.3 M parameters, for 8 frames of 8×8 latents."""
    return UNet3DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of 64 channels over the caption vocabulary."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """ModelScope's beta schedule with v-prediction and zero terminal SNR (arXiv 2305.08891)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, frames: Tensor, batch: int = 32) -> Tensor:
    """uint8 (N, T, 3, H, W) → scaled latents float (N, 4, T, H/4, W/4)."""
    latents = []
    for chunk in frames.split(batch):
        mean = vae.encode(to_model_range(chunk.flatten(0, 1))).latent_dist.mean
        latents.append(mean.unflatten(0, chunk.shape[:2]).movedim(1, 2))
    return torch.cat(latents) * vae.config.scaling_factor


def draw_timesteps(count: int, total: int, high_noise_share: float, generator: torch.Generator) -> Tensor:
    """Uniform timesteps, of which a share is drawn from the noisiest 30 % instead.

    Motion has to be read from the caption while nothing is visible yet; uniform timesteps teach it last.
    """
    lowest = torch.where(torch.rand(count, generator=generator) < high_noise_share, int(0.7 * total), 0)
    return (lowest + torch.rand(count, generator=generator) * (total - lowest)).long()


def denoising_loss(
    clean: Tensor, predict: Callable[[Tensor, Tensor], Tensor], high_noise_share: float, generator: torch.Generator
) -> Tensor:
    """The v-prediction loss of `predict(noisy, timesteps)`, which is called after noise and timesteps are drawn."""
    scheduler = build_scheduler()
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = draw_timesteps(len(clean), scheduler.config.num_train_timesteps, high_noise_share, generator)
    predicted = predict(scheduler.add_noise(clean, noise, timesteps), timesteps)
    return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))


def train(options: ModelScopeOptions) -> tuple[UNet3DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """The EMA weights of the denoiser and of its text encoder, with the tokenizer they were trained on."""
    torch.manual_seed(options.seed)
    vae = AutoencoderKL.from_pretrained(options.work_dir / "vae").eval()
    tokenizer = build_caption_tokenizer(all_captions())
    bank = ClipBank(options.clips)
    latents = encode_latents(vae, bank.frames)
    tokens = tokenizer(bank.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    empty = tokenizer("", padding="max_length", return_tensors="pt").input_ids[0]
    # Eval mode: the data are procedural and endless, so UNet3D's dropout would only cost time.
    model = nn.ModuleDict({"unet": build_unet(), "text_encoder": build_text_encoder(tokenizer)}).eval()
    if options.init_from:
        folder = Path(options.init_from)
        model["unet"] = UNet3DConditionModel.from_pretrained(folder / "unet").eval()
        model["text_encoder"] = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = bank.draw(CLIPS_PER_BATCH, generator)

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            unconditional = torch.rand(len(index), generator=generator) < UNCONDITIONAL_SHARE
            text = model["text_encoder"](torch.where(unconditional[:, None], empty, tokens[index])).last_hidden_state
            return model["unet"](noisy, timesteps, text).sample

        return denoising_loss(latents[index], predict, options.high_noise_share, generator)

    config = TrainingConfig(options.steps, learning_rate=1.5e-3, warmup=200, ema_decay=0.998, seed=options.seed)
    trained = fit(model, loss_function, config, options.work_dir / "denoiser.pt")
    return trained["unet"].eval(), trained["text_encoder"].eval(), tokenizer


def main() -> None:
    options = ModelScopeOptions.from_command_line(__doc__)
    join_processes()
    unet, text_encoder, tokenizer = train(options)
    if is_main_process():
        unet.save_pretrained(options.work_dir / "unet")
        text_encoder.save_pretrained(options.work_dir / "text_encoder")
        tokenizer.save_pretrained(options.work_dir / "tokenizer")


if __name__ == "__main__":
    main()
