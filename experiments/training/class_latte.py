"""Train the embedded class-conditional Latte: `python -m experiments.training.class_latte`.

A class is a combination of shape, colour and motion. The classes' embeddings are trained as sums of one vector per
attribute value, so that 280 classes share what they have in common, and stored as the released table of one row each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.utils import parametrize

from experiments.training.card import ship
from experiments.training.denoiser import build_scheduler
from experiments.training.latents import latent_bank
from experiments.training.latte import LatteOptions, fit_denoiser
from qvd.data.shapes import ATTRIBUTES
from qvd.graph.attention import explicit_attention_
from qvd.models.latte_network import ClassLatte
from qvd.models.latte_pipeline import ClassLattePipeline

OUTPUT = Path("qvd/models/weights/tiny_latte_cc")
PURPOSE = """A class-conditional video diffusion transformer of {parameters:.2f} M parameters, trained by this project
on its procedural dataset `shapes`. It has the released class-conditional Latte's layers and parameter names at a size
that runs on a laptop; it is a test bed for quantization and says nothing about Latte's own quality. A class is a
combination of colour, shape and motion; the background is left to the model. The channels of the learned sigma exist
but were not trained: it is sampled with DDIM."""
VALUES = [len(values) for values in ATTRIBUTES.values()]
NUM_CLASSES = VALUES[0] * VALUES[1] * VALUES[2]


@dataclass(frozen=True)
class ClassLatteOptions(LatteOptions):
    """Those of the text-to-video Latte."""

    output: Path = OUTPUT


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


def train(options: ClassLatteOptions) -> ClassLatte:
    """The EMA weights of the denoiser."""
    torch.manual_seed(options.seed)
    bank = latent_bank(options.clips, options.work_dir, options.vae)
    targets = class_labels(bank.labels)
    network = build_network()
    table = network.y_embedder.embedding_table
    parametrize.register_parametrization(table, "weight", SumOfAttributes(), unsafe=True)
    explicit_attention_(network)

    def predict(noisy: Tensor, timesteps: Tensor, index: Tensor, null: Tensor) -> Tensor:
        classes = torch.where(null, NUM_CLASSES, targets[index])
        return network(noisy, timesteps, classes).sample[:, :, : noisy.shape[2]]

    trained = fit_denoiser(network, bank.latents.transpose(1, 2), predict, options, "class_latte")
    parametrize.remove_parametrizations(trained.y_embedder.embedding_table, "weight")
    return trained


def save(network: ClassLatte, vae: Path, output: Path, facts: dict[str, str]) -> None:
    """Ship the trained network with the autoencoder at `vae`."""
    ship(ClassLattePipeline(AutoencoderKL.from_pretrained(vae), network, build_scheduler()), output, PURPOSE, facts)


def main() -> None:
    options = ClassLatteOptions.from_command_line(__doc__)
    classes = "ClassLattePipeline: AutoencoderKL, ClassLatte, DDIMScheduler"
    save(train(options), options.vae, options.output, options.history("class_latte", classes, "null class"))


if __name__ == "__main__":
    main()
