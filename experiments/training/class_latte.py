"""Train the embedded class-conditional Latte: `python -m experiments.training.class_latte`.

A class is a combination of shape, colour and motion. The classes' embeddings are trained as sums of one vector per
attribute value, so that 280 classes share what they have in common, and stored as the released table of one row each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from experiments.training.card import write_card
from experiments.training.denoiser import UNCONDITIONAL_SHARE, build_scheduler, draw_timesteps
from experiments.training.latents import VAE, latent_bank
from experiments.training.loop import TrainingConfig, fit
from qvd.data.shapes import ATTRIBUTES
from qvd.models.latte_network import ClassLatte
from qvd.models.latte_pipeline import ClassLattePipeline
from qvd.quant.attention import explicit_attention_

OUTPUT = Path("qvd/models/weights/tiny_latte_cc")
PURPOSE = """A class-conditional video diffusion transformer of {parameters:.2f} M parameters, trained by this project
on its procedural dataset `shapes`. It has the released class-conditional Latte's layers and parameter names at a size
that runs on a laptop; it is a test bed for quantization and says nothing about Latte's own quality. A class is a
combination of colour, shape and motion. The channels of the learned sigma exist but were not trained: it is sampled
with DDIM."""
VALUES = [len(values) for values in ATTRIBUTES.values()]
NUM_CLASSES = VALUES[0] * VALUES[1] * VALUES[2]


class SumOfAttributes(nn.Module):
    """The classes' table from one vector per attribute value, and the null class's."""

    def forward(self, parts: Tensor) -> Tensor:
        """(values of all attributes + 1, C) → (NUM_CLASSES + 1, C)."""
        shapes, colours, motions, null = parts.split([*VALUES, 1])
        sums = shapes[:, None, None] + colours[None, :, None] + motions[None, None]
        return torch.cat([sums.flatten(0, 2), null])

    def right_inverse(self, table: Tensor) -> Tensor:
        """Fresh vectors: training starts from them, not from a given table."""
        return table.new_empty(sum(VALUES) + 1, table.shape[1]).normal_(std=0.02)


def class_labels(labels: Tensor) -> Tensor:
    """Attribute indices (N, 3) → class indices (N,)."""
    return (labels[:, 0] * VALUES[1] + labels[:, 1]) * VALUES[2] + labels[:, 2]


def build_network() -> ClassLatte:
    """The released layout at 1.9 M parameters, for 8 frames of 8×8 latents."""
    network = ClassLatte(
        sample_size=8, hidden_size=128, depth=6, num_heads=4, num_frames=8, num_classes=NUM_CLASSES, learn_sigma=True
    )
    network.initialise_()
    return network


def train(
    steps: int, clips: int, work_dir: Path, seed: int, high_noise_share: float, batch: int = 32, vae: Path = VAE
) -> ClassLatte:
    """The EMA weights of the denoiser."""
    torch.manual_seed(seed)
    bank = latent_bank(clips, work_dir, vae)
    targets = class_labels(bank.labels)
    scheduler = build_scheduler()
    network = build_network()
    table = network.y_embedder.embedding_table
    parametrize.register_parametrization(table, "weight", SumOfAttributes(), unsafe=True)
    explicit_attention_(network)

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = bank.draw(batch, generator)
        clean = bank.latents[index].transpose(1, 2)
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = draw_timesteps(batch, scheduler.config.num_train_timesteps, high_noise_share, generator)
        null = torch.rand(batch, generator=generator) < UNCONDITIONAL_SHARE
        classes = torch.where(null, NUM_CLASSES, targets[index])
        with torch.autocast("cpu", torch.bfloat16):
            output = network(scheduler.add_noise(clean, noise, timesteps), timesteps, classes).sample
        predicted = output[:, :, : clean.shape[2]].float()
        return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))

    config = TrainingConfig(steps=steps, learning_rate=1.5e-3, warmup=200, ema_decay=0.998, seed=seed)
    trained = fit(network, loss_function, config, work_dir / "class_latte.pt")
    parametrize.remove_parametrizations(trained.y_embedder.embedding_table, "weight")
    return trained.eval()


def save(network: ClassLatte, vae: Path, output: Path, facts: dict[str, str]) -> None:
    """Write a folder in the hub's layout, weights in fp16 safetensors, with README.md as its card."""
    pipeline = ClassLattePipeline(AutoencoderKL.from_pretrained(vae), network, build_scheduler())
    parts = (pipeline.transformer, pipeline.vae)
    parameters = sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6
    pipeline.to(dtype=torch.float16).save_pretrained(output, safe_serialization=True)
    write_card(output, output.name, PURPOSE.format(parameters=parameters), facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--clips", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--high-noise-share", type=float, default=0.5)
    parser.add_argument("--work-dir", type=Path, default=Path("outputs/training"))
    parser.add_argument("--vae", type=Path, default=VAE)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    network = train(
        arguments.steps,
        arguments.clips,
        arguments.work_dir,
        arguments.seed,
        arguments.high_noise_share,
        arguments.batch,
        arguments.vae,
    )
    facts = {
        "classes": "ClassLattePipeline: AutoencoderKL, ClassLatte, DDIMScheduler",
        "data": f"`qvd.data.shapes`, split `train`, the first {arguments.clips} clips of 8 frames of 32×32 pixels",
        "autoencoder": "that of tiny_modelscope",
        "training": f"{arguments.steps} steps of {arguments.batch} clips: `python -m experiments.training.class_latte "
        f"--steps {arguments.steps} --clips {arguments.clips} --batch {arguments.batch}`",
        "objective": "v-prediction, zero terminal SNR, 12 % null class, EMA 0.998, bfloat16 autocast",
        "seed": str(arguments.seed),
    }
    save(network, arguments.vae, arguments.output, facts)


if __name__ == "__main__":
    main()
