"""Does the model show what the prompt says? `python -m experiments.attributes [overrides]`

Prints the share of FP samples whose shape, colour and motion the embedded classifier reads as prompted, and the
same classifier's accuracy on held-out real clips.
"""

from __future__ import annotations

import sys

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from experiments.config import CONF, GROUPS, RunConfig, build_run_config, check_group_choices
from experiments.errors import one_line_errors
from experiments.progress import Reporter
from experiments.stages import Stages
from metrics.extractors.shapes_classifier import ShapesClassifier, attribute_accuracy
from qvd.data.shapes import ATTRIBUTES, Shapes
from qvd.store import Store

HELD_OUT_CLIPS = 512


def compose_run_config(overrides: list[str]) -> RunConfig:
    """The validated config of command-line words, outside Hydra's own entry point."""
    check_group_choices(overrides)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", overrides, return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    return build_run_config(composed, {group: choices[group] for group in GROUPS})


def labels_of(dataset: Shapes, count: int) -> dict[str, torch.Tensor]:
    """Class index (count,) of every attribute of the first `count` clips."""
    labels = [dataset.attributes(index).labels for index in range(count)]
    return {name: torch.tensor([label[name] for label in labels]) for name in ATTRIBUTES}


def measure(config: RunConfig) -> dict[str, dict[str, float]]:
    """Accuracy by attribute, for FP samples and for held-out real clips.

    Raises:
        ValueError: the prompts are not those of `shapes`.
    """
    if not isinstance(config.dataset, Shapes):
        raise ValueError(f"dataset={config.dataset.describe()}: attribute accuracy needs dataset=shapes")
    classifier = ShapesClassifier.load()
    samples = Stages(config, Store(config.store), Reporter()).samples(None).tensors["videos"]
    real = torch.stack([torch.from_numpy(config.dataset.clip(index).frames) for index in range(HELD_OUT_CLIPS)])
    return {
        f"FP samples ({len(samples)})": attribute_accuracy(
            classifier, samples, labels_of(config.dataset, len(samples))
        ),
        f"held-out real clips ({len(real)})": attribute_accuracy(
            classifier, real, labels_of(config.dataset, len(real))
        ),
    }


def main() -> None:
    with one_line_errors():
        config = compose_run_config(sys.argv[1:])
        table = Table(title=f"Attribute accuracy, {config.model_name}, {config.num_inference_steps} steps")
        table.add_column("clips")
        for name in ATTRIBUTES:
            table.add_column(name, justify="right")
        for clips, accuracy in measure(config).items():
            table.add_row(clips, *(f"{value:.3f}" for value in accuracy.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
