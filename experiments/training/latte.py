"""Train the embedded text-to-video Latte: `python -m experiments.training.latte`.

The transformer and its small T5 encoder are trained together (v-prediction, zero terminal SNR). What the training of
the class-conditional Latte has in common with it is here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, LattePipeline, LatteTransformer3DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from experiments.training.card import ship
from experiments.training.denoiser import UNCONDITIONAL_SHARE, build_scheduler, denoising_loss
from experiments.training.latents import VAE, latent_bank
from experiments.training.loop import TrainingConfig, fit
from experiments.training.options import DenoiserOptions
from qvd.data.shapes import all_captions
from qvd.graph.attention import explicit_attention_
from qvd.models.latte import text_embeddings

OUTPUT = Path("qvd/models/weights/tiny_latte")
PURPOSE = """A text-to-video diffusion transformer of {parameters:.2f} M parameters, trained by this project on its
procedural dataset `shapes`. It has Latte T2V's pipeline and layer types at a size that runs on a laptop; it is a test
bed for quantization and says nothing about Latte's own quality. The channels of the learned sigma exist but were not
trained: it is sampled with DDIM."""
TEXT_WIDTH = 64
MAX_TOKENS = 12
M = TypeVar("M", bound=nn.Module)
# (noisy latents, timesteps, indices of the clips, which of them lose their condition) → the prediction
Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LatteOptions(DenoiserOptions):
    """Options of a Latte's training; `vae`: folder of the autoencoder."""

    steps: int = 6000
    batch: int = 32
    vae: Path = VAE
    output: Path = OUTPUT

    def history(self, module: str, classes: str, empty: str) -> dict[str, str]:
        """Rows of the card.

        Args:
            module: name of the training command's module, which left `<module>.pt`.
            classes: those of the pipeline and of its parts.
            empty: what stands for no condition.
        """
        return {
            "classes": classes,
            "objective": f"v-prediction, zero terminal SNR, 12 % {empty}, EMA 0.998, bfloat16 autocast",
            "data": f"`qvd.data.shapes`, split `train`, the first {self.clips} clips of 8 frames of 32×32 pixels",
            "autoencoder": "that of tiny_modelscope",
            "training": f"{self.steps} steps of {self.batch} clips",
            **self.facts(module, f"{module}.pt"),
        }


def build_tokenizer() -> T5Tokenizer:
    """A unigram tokenizer in which every word of the captions is one token."""
    words = sorted({word for caption in all_captions() for word in caption.split()})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0), *((f"▁{word}", -1.0) for word in words)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """Two layers of 64 channels over the caption vocabulary, in T5 v1.1's form."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=2 * TEXT_WIDTH,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return T5EncoderModel(config)


def build_transformer() -> LatteTransformer3DModel:
    """Latte T2V's layers at 1.7 M parameters, for 8 frames of 8×8 latents."""
    return LatteTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=128,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=TEXT_WIDTH,
        video_length=8,
    )


def initialise_(transformer: LatteTransformer3DModel) -> None:
    """As DiT: every block's gates and the output start at zero."""
    nn.init.zeros_(transformer.adaln_single.linear.weight)
    nn.init.zeros_(transformer.adaln_single.linear.bias)
    for block in (*transformer.transformer_blocks, *transformer.temporal_transformer_blocks):
        table = block.scale_shift_table.data
        table.normal_(std=0.02)
        table[[2, 5]] = 0.1  # the gates: not quite closed, since one shared projection opens all of them
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)


def train(options: LatteOptions) -> tuple[LatteTransformer3DModel, T5EncoderModel, T5Tokenizer]:
    """The EMA weights of the transformer and of its text encoder, with the tokenizer they were trained on."""
    torch.manual_seed(options.seed)
    bank = latent_bank(options.clips, options.work_dir, options.vae)
    tokenizer = build_tokenizer()
    model = nn.ModuleDict({"transformer": build_transformer(), "text_encoder": build_text_encoder(tokenizer)}).eval()
    initialise_(model["transformer"])
    explicit_attention_(model["transformer"])

    def predict(noisy: Tensor, timesteps: Tensor, index: Tensor, empty: Tensor) -> Tensor:
        prompts = ["" if none else bank.captions[i] for none, i in zip(empty.tolist(), index.tolist(), strict=True)]
        text = text_embeddings(tokenizer, model["text_encoder"], prompts)
        return model["transformer"](noisy, timesteps, text).sample[:, : noisy.shape[1]]

    trained = fit_denoiser(model, bank.latents, predict, options, "latte")
    return trained["transformer"], trained["text_encoder"], tokenizer


def fit_denoiser(model: M, latents: Tensor, predict: Predict, options: LatteOptions, name: str) -> M:
    """The EMA weights of a denoiser, and of what is trained with it.

    Args:
        model: every trained parameter is inside it.
        latents: (clips, …) as the denoiser reads them.
        predict: runs it, under autocast, without the channels of the learned sigma.
        name: of the checkpoint.
    """

    def loss_function(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(latents), (options.batch,), generator=generator)

        def predicted(noisy: Tensor, timesteps: Tensor) -> Tensor:
            empty = torch.rand(len(index), generator=generator) < UNCONDITIONAL_SHARE
            with torch.autocast("cpu", torch.bfloat16):
                return predict(noisy, timesteps, index, empty).float()

        return denoising_loss(latents[index], predicted, options.high_noise_share, generator)

    config = TrainingConfig(options.steps, learning_rate=1.5e-3, warmup=200, ema_decay=0.998, seed=options.seed)
    return fit(model, loss_function, config, options.work_dir / f"{name}.pt").eval()


def save(
    parts: tuple[LatteTransformer3DModel, T5EncoderModel, T5Tokenizer], vae: Path, output: Path, facts: dict[str, str]
) -> None:
    """Ship the trained parts with the autoencoder at `vae`."""
    transformer, text_encoder, tokenizer = parts
    autoencoder = AutoencoderKL.from_pretrained(vae)
    ship(LattePipeline(tokenizer, text_encoder, autoencoder, transformer, build_scheduler()), output, PURPOSE, facts)


def main() -> None:
    options = LatteOptions.from_command_line(__doc__)
    classes = "LattePipeline: AutoencoderKL, T5EncoderModel, LatteTransformer3DModel, DDIMScheduler"
    save(train(options), options.vae, options.output, options.history("latte", classes, "empty prompts"))


if __name__ == "__main__":
    main()
