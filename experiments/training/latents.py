"""Latents of the training clips, encoded once by the embedded autoencoder and shared by every denoiser's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from experiments.training.data import ClipBank
from experiments.training.denoiser import encode_latents
from qvd.data.shapes import Shapes
from qvd.store.digest import file_digest

VAE = Path("qvd/models/weights/tiny_modelscope/vae")


@dataclass(frozen=True)
class LatentBank:
    """The first clips of the training split as latents.

    Attributes:
        latents: float (N, 4, T, H/4, W/4), scaled.
        labels: long (N, 3), class indices in the order of `qvd.data.shapes.ATTRIBUTES`.
        captions: one per clip.
    """

    latents: torch.Tensor
    labels: torch.Tensor
    captions: list[str]

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """`count` clip indices, with replacement."""
        return torch.randint(len(self.latents), (count,), generator=generator)


def latent_bank(clips: int, work_dir: Path, vae: Path = VAE) -> LatentBank:
    """Encode the first `clips` training clips, or read them where an earlier training with the same autoencoder left
    them in `work_dir`."""
    file = work_dir / f"latents-{clips}-{file_digest(vae.iterdir())[:8]}.safetensors"
    if not file.exists():
        bank = ClipBank(clips)
        encoder = AutoencoderKL.from_pretrained(vae, dtype=torch.float32).eval()
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latents": encode_latents(encoder, bank.frames).half().contiguous(), "labels": bank.labels}, file)
    tensors = load_file(file)
    dataset = Shapes(split="train")
    captions = [dataset.attributes(index).caption for index in range(clips)]
    return LatentBank(tensors["latents"].float(), tensors["labels"], captions)
