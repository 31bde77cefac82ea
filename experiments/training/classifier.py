"""Train the embedded video classifier (FVD extractor): `python -m experiments.training.classifier`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from experiments.training.card import write_card
from experiments.training.data import ClipBank
from experiments.training.loop import TrainingConfig, fit
from experiments.training.options import TrainingOptions
from metrics.extractors.shapes_classifier import WEIGHTS, ShapesClassifier, attribute_accuracy
from qvd.data.shapes import ATTRIBUTES

PURPOSE = """The embedded FVD extractor: a 3-D convolutional classifier of a clip's shape, colour and motion. Its 64
penultimate activations are the features. Distances in them compare only with distances from the same weights."""
CLIPS_PER_BATCH = 32
HELD_OUT_CLIPS = 1024
NOISE_LEVELS = 16.0  # standard deviation of the augmentation, in grey levels


@dataclass(frozen=True)
class ClassifierOptions(TrainingOptions):
    """Options of this training."""

    steps: int = 1500
    output: Path = WEIGHTS


def train(options: ClassifierOptions) -> ShapesClassifier:
    """The EMA weights of the classifier."""
    torch.manual_seed(options.seed)
    model = ShapesClassifier({name: list(values) for name, values in ATTRIBUTES.items()})
    bank = ClipBank(options.clips)

    def loss_function(generator: torch.Generator, step: int) -> torch.Tensor:
        index = bank.draw(CLIPS_PER_BATCH, generator)
        videos = bank.frames[index].float()
        # Generated clips are never as clean as drawn ones: train on noisy pixels at a random strength.
        strength = NOISE_LEVELS * torch.rand(len(index), 1, 1, 1, 1, generator=generator)
        logits = model(videos + strength * torch.randn(videos.shape, generator=generator))
        targets = bank.labels[index].unbind(1)
        losses = [F.cross_entropy(logits[name], target) for name, target in zip(ATTRIBUTES, targets, strict=True)]
        return torch.stack(losses).sum()

    config = TrainingConfig(steps=options.steps, learning_rate=1e-3, seed=options.seed)
    return fit(model, loss_function, config, options.work_dir / "classifier.pt").eval()


def main() -> None:
    options = ClassifierOptions.from_command_line(__doc__)
    train(options).save(options.output)
    facts = {
        "data": f"`qvd.data.shapes`, split `train`, the first {options.clips} clips, with pixel noise",
        **options.facts("classifier", "classifier.pt"),
    }
    write_card(options.output, "shapes_classifier", PURPOSE, facts)
    held_out = ClipBank(HELD_OUT_CLIPS, split="evaluation")
    labels = dict(zip(ATTRIBUTES, held_out.labels.unbind(1), strict=True))
    accuracy = attribute_accuracy(ShapesClassifier.load(options.output), held_out.frames, labels)
    print("held-out accuracy:", ", ".join(f"{name} {value:.4f}" for name, value in accuracy.items()))


if __name__ == "__main__":
    main()
