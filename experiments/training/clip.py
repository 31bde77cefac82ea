"""Train the embedded CLIPModel on frame–caption pairs (for CLIPSIM): `python -m experiments.training.clip`.

A single frame does not show motion, so captions that differ only in motion count as positives of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from experiments.training.card import write_card
from experiments.training.data import ClipBank
from experiments.training.loop import TrainingConfig, fit
from experiments.training.options import TrainingOptions
from qvd.data.shapes import MOTIONS, all_captions
from qvd.models.tokenizer import MAX_LENGTH, build_caption_tokenizer

PURPOSE = """A CLIPModel of 0.26 M parameters for CLIPSIM on `shapes`: it knows the dataset's words and nothing else."""
FRAMES_PER_BATCH = 48
WIDTH = 64
MEAN = STD = [0.5, 0.5, 0.5]


@dataclass(frozen=True)
class ClipOptions(TrainingOptions):
    """Options of this training."""

    steps: int = 3000
    output: Path = Path("metrics/extractors/weights/shapes_clip")


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A three-layer vision transformer on 4×4 patches of 32×32 frames beside a two-layer text transformer."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_attention_heads": 4}
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": MAX_LENGTH, "num_hidden_layers": 2}
    vision = {"image_size": 32, "patch_size": 4, "num_hidden_layers": 3}
    return CLIPModel(
        CLIPConfig(
            text_config={**tower, **text, **tokens, "pad_token_id": tokenizer.pad_token_id},
            vision_config={**tower, **vision},
            projection_dim=WIDTH,
        )
    )


def still_caption(caption: str) -> str:
    """The caption without its motion: what one frame can show."""
    for motion in MOTIONS:
        caption = caption.replace(f" {motion}", "")
    return caption


def train(options: ClipOptions) -> tuple[CLIPModel, CLIPTokenizer]:
    """The EMA weights of the model and the tokenizer."""
    torch.manual_seed(options.seed)
    tokenizer = build_caption_tokenizer(all_captions())
    model = build_clip(tokenizer)
    bank = ClipBank(options.clips)
    tokens = tokenizer(bank.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    stills = [still_caption(caption) for caption in bank.captions]
    still_ids = {caption: number for number, caption in enumerate(sorted(set(stills)))}
    groups = torch.tensor([still_ids[caption] for caption in stills])
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))

    def loss_function(generator: torch.Generator, step: int) -> torch.Tensor:
        index = bank.draw(FRAMES_PER_BATCH, generator)
        frame = torch.randint(bank.frames.shape[1], (FRAMES_PER_BATCH,), generator=generator)
        pixels = (bank.frames[index, frame] - mean) / std
        logits = model(input_ids=tokens[index], pixel_values=pixels).logits_per_image
        positives = (groups[index, None] == groups[None, index]).float()
        targets = positives / positives.sum(1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    config = TrainingConfig(steps=options.steps, learning_rate=1e-3, seed=options.seed)
    return fit(model, loss_function, config, options.work_dir / "clip.pt").eval(), tokenizer


def main() -> None:
    options = ClipOptions.from_command_line(__doc__)
    model, tokenizer = train(options)
    model.half().save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32, image_mean=MEAN, image_std=STD)
    processor.save_pretrained(options.output)
    facts = {
        "data": f"`qvd.data.shapes`, split `train`, single frames of the first {options.clips} clips and captions",
        **options.facts("clip", "clip.pt"),
    }
    write_card(options.output, "shapes_clip", PURPOSE, facts)


if __name__ == "__main__":
    main()
