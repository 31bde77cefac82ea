"""Train the embedded AutoencoderKL on single frames: `python -m experiments.training.autoencoder`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL

from experiments.training.data import ClipBank, to_model_range
from experiments.training.loop import TrainingConfig, fit
from experiments.training.options import TrainingOptions

FRAMES_PER_BATCH = 24


@dataclass(frozen=True)
class AutoencoderOptions(TrainingOptions):
    """Options of this training; fewer clips do, since every frame of theirs is an image."""

    steps: int = 3000
    clips: int = 4000


def build_autoencoder() -> AutoencoderKL:
    """32×32 RGB frames ↔ 4×8×8 latents."""
    return AutoencoderKL(
        sample_size=32,
        latent_channels=4,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )


def train(options: AutoencoderOptions) -> AutoencoderKL:
    """The trained autoencoder, with `scaling_factor` set so that latents have unit deviation."""
    torch.manual_seed(options.seed)
    model = build_autoencoder()
    frames = ClipBank(options.clips).frames.flatten(0, 1)

    def loss_function(generator: torch.Generator, step: int) -> torch.Tensor:
        index = torch.randint(len(frames), (FRAMES_PER_BATCH,), generator=generator)
        images = to_model_range(frames[index])
        posterior = model.encode(images).latent_dist
        decoded = model.decode(posterior.sample(generator)).sample
        error = decoded - images
        return error.abs().mean() + 2 * error.square().mean() + 1e-5 * posterior.kl().mean()

    config = TrainingConfig(steps=options.steps, learning_rate=2e-3, seed=options.seed)
    trained = fit(model, loss_function, config, options.work_dir / "autoencoder.pt")
    trained.register_to_config(scaling_factor=_unit_deviation_factor(trained, frames))
    return trained.eval()


@torch.no_grad()
def _unit_deviation_factor(model: AutoencoderKL, frames: torch.Tensor) -> float:
    latents = model.encode(to_model_range(frames[:: max(1, len(frames) // 512)])).latent_dist.mean
    return round(1.0 / latents.std().item(), 5)


def main() -> None:
    options = AutoencoderOptions.from_command_line(__doc__)
    train(options).save_pretrained(options.work_dir / "vae")


if __name__ == "__main__":
    main()
