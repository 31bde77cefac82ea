"""Train the embedded text-to-video Latte: `python -m experiments.training.latte`.

The transformer and its small T5 encoder are trained together (v-prediction, zero terminal SNR).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, LattePipeline, LatteTransformer3DModel
from torch import nn
from torch.nn import functional as F
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from experiments.training.card import write_card
from experiments.training.denoiser import UNCONDITIONAL_SHARE, build_scheduler, draw_timesteps
from experiments.training.latents import VAE, latent_bank
from experiments.training.loop import TrainingConfig, fit
from qvd.data.shapes import all_captions
from qvd.models.latte import text_embeddings
from qvd.quant.attention import explicit_attention_

OUTPUT = Path("qvd/models/weights/tiny_latte")
PURPOSE = """A text-to-video diffusion transformer of {parameters:.2f} M parameters, trained by this project on its
procedural dataset `shapes`. It has Latte T2V's pipeline and layer types at a size that runs on a laptop; it is a test
bed for quantization and says nothing about Latte's own quality. The channels of the learned sigma exist but were not
trained: it is sampled with DDIM."""
TEXT_WIDTH = 64
MAX_TOKENS = 12


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


def train(
    steps: int, clips: int, work_dir: Path, seed: int, high_noise_share: float, batch: int = 32, vae: Path = VAE
) -> tuple[LatteTransformer3DModel, T5EncoderModel, T5Tokenizer]:
    """The EMA weights of the transformer and of its text encoder, with the tokenizer they were trained on."""
    torch.manual_seed(seed)
    bank = latent_bank(clips, work_dir, vae)
    tokenizer = build_tokenizer()
    scheduler = build_scheduler()
    model = nn.ModuleDict({"transformer": build_transformer(), "text_encoder": build_text_encoder(tokenizer)}).eval()
    initialise_(model["transformer"])
    explicit_attention_(model["transformer"])

    def loss_function(generator: torch.Generator, step: int) -> torch.Tensor:
        index = bank.draw(batch, generator)
        clean = bank.latents[index]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = draw_timesteps(batch, scheduler.config.num_train_timesteps, high_noise_share, generator)
        empty = torch.rand(batch, generator=generator) < UNCONDITIONAL_SHARE
        prompts = ["" if none else bank.captions[i] for none, i in zip(empty.tolist(), index.tolist(), strict=True)]
        with torch.autocast("cpu", torch.bfloat16):
            text = text_embeddings(tokenizer, model["text_encoder"], prompts)
            output = model["transformer"](scheduler.add_noise(clean, noise, timesteps), timesteps, text).sample
        predicted = output[:, : clean.shape[1]].float()
        return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps))

    config = TrainingConfig(steps=steps, learning_rate=1.5e-3, warmup=200, ema_decay=0.998, seed=seed)
    trained = fit(model, loss_function, config, work_dir / "latte.pt")
    return trained["transformer"].eval(), trained["text_encoder"].eval(), tokenizer


def save(
    parts: tuple[LatteTransformer3DModel, T5EncoderModel, T5Tokenizer], vae: Path, output: Path, facts: dict[str, str]
) -> None:
    """Save the pipeline in fp16 safetensors in the hub's layout, with README.md as its card."""
    transformer, text_encoder, tokenizer = parts
    pipeline = LattePipeline(
        tokenizer, text_encoder, AutoencoderKL.from_pretrained(vae), transformer, build_scheduler()
    )
    trained = (pipeline.transformer, pipeline.text_encoder, pipeline.vae)
    parameters = sum(parameter.numel() for part in trained for parameter in part.parameters()) / 1e6
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
    parts = train(
        arguments.steps,
        arguments.clips,
        arguments.work_dir,
        arguments.seed,
        arguments.high_noise_share,
        arguments.batch,
        arguments.vae,
    )
    facts = {
        "classes": "LattePipeline: AutoencoderKL, T5EncoderModel, LatteTransformer3DModel, DDIMScheduler",
        "data": f"`qvd.data.shapes`, split `train`, the first {arguments.clips} clips of 8 frames of 32×32 pixels",
        "autoencoder": "that of tiny_modelscope",
        "training": f"{arguments.steps} steps of {arguments.batch} clips: `python -m experiments.training.latte "
        f"--steps {arguments.steps} --clips {arguments.clips} --batch {arguments.batch}`",
        "objective": "v-prediction, zero terminal SNR, 12 % empty prompts, EMA 0.998, bfloat16 autocast",
        "seed": str(arguments.seed),
    }
    save(parts, arguments.vae, arguments.output, facts)


if __name__ == "__main__":
    main()
