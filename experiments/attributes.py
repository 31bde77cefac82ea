"""Does the model show what the prompt says? `python -m experiments.attributes [overrides]`

Prints the share of FP samples whose shape, colour and motion the embedded classifier reads as prompted, and the
same classifier's accuracy on held-out real clips. Then the FVD (on the classifier's features) of the samples to those
clips, and that of the same samples with their frames shuffled: what motion is worth. There are as many samples as
clips, unless `n_videos` says otherwise: a Fréchet distance of few videos is too large.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from experiments.config import groups
from experiments.config.build import build_run_config
from experiments.config.keys import check_words
from experiments.config.run_config import RunConfig
from experiments.progress import Reporter
from experiments.report.tabular import Cell, Column, Table, render_terminal
from experiments.stages.stages import Stages
from metrics.devices import check_device
from metrics.errors import one_line_errors
from metrics.extractors.shapes_classifier import ShapesClassifier, attribute_accuracy
from metrics.frechet import frechet_distance
from qvd.data.shapes import ATTRIBUTES, Shapes
from qvd.store.artifacts import Store

HELD_OUT_CLIPS = 512


def compose_run_config(overrides: list[str]) -> RunConfig:
    """The validated config of command-line words, outside Hydra's own entry point.

    Raises:
        ValueError, FileNotFoundError: one line naming the value and what is allowed.
    """
    trusted = check_words(overrides)
    with initialize_config_dir(str(groups.CONF), version_base="1.3"):
        try:
            composed = compose("config", overrides, return_hydra_config=True)
        except HydraException as error:
            raise ValueError(" ".join(str(error).split())) from error
    choices = composed.hydra.runtime.choices
    return build_run_config(composed, {group: choices[group] for group in groups.GROUPS}, trusted)


def labels_of(dataset: Shapes, count: int) -> dict[str, torch.Tensor]:
    """Class index (count,) of every attribute of the first `count` clips."""
    labels = [dataset.attributes(index).labels for index in range(count)]
    return {name: torch.tensor([label[name] for label in labels]) for name in ATTRIBUTES}


@dataclass(frozen=True)
class Attributes:
    """What `measure` finds.

    Attributes:
        samples: uint8 (n_videos, T, 3, H, W) of the FP model.
        accuracy: clips → attribute → share read as prompted; for FP samples and for held-out real clips.
        fvd: of the FP samples to the held-out real clips.
        shuffled_fvd: the same, the frames of each sample in random order.
    """

    samples: torch.Tensor
    accuracy: dict[str, dict[str, float]]
    fvd: float
    shuffled_fvd: float

    def table(self, title: str) -> Table:
        """The accuracy, with the FVD below."""
        columns = [Column("clips", "clips", numeric=False), *(Column(name, name, decimals=3) for name in ATTRIBUTES)]
        rows = [[Cell(clips), *map(Cell, shares.values())] for clips, shares in self.accuracy.items()]
        ratio = self.fvd / self.shuffled_fvd
        notes = [
            "Share of clips whose attribute the embedded classifier reads as prompted.",
            f"FVD (that classifier's features) of {len(self.samples)} FP samples to {HELD_OUT_CLIPS} held-out real "
            f"clips: {self.fvd:.1f}; with each sample's frames shuffled: {self.shuffled_fvd:.1f} (ratio {ratio:.3f}).",
        ]
        return Table(title, columns, rows, notes)


def measure(config: RunConfig) -> Attributes:
    """Accuracy by attribute and FVD of the FP samples.

    Raises:
        ValueError: the prompts are not those of `shapes`.
    """
    if not isinstance(config.dataset, Shapes):
        raise ValueError(f"dataset={config.dataset.describe()}: attribute accuracy needs dataset=shapes")
    classifier = ShapesClassifier.load()
    samples = Stages(config, Store(config.store), Reporter()).samples(None).videos[:]
    real = torch.stack([torch.from_numpy(config.dataset.clip(index).frames) for index in range(HELD_OUT_CLIPS)])
    with torch.no_grad():
        generated, shuffled, reference = map(classifier.features, (samples, shuffle_frames(samples), real))
    return Attributes(
        samples,
        {
            f"{name} ({len(clips)})": attribute_accuracy(classifier, clips, labels_of(config.dataset, len(clips)))
            for name, clips in (("FP samples", samples), ("held-out real clips", real))
        },
        frechet_distance(generated, reference),
        frechet_distance(shuffled, reference),
    )


def shuffle_frames(videos: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """(B, T, …) with the frames of each video in a random order of its own."""
    order = torch.rand(videos.shape[:2], generator=torch.Generator().manual_seed(seed)).argsort(1)
    return torch.stack([video[frames] for video, frames in zip(videos, order, strict=True)])


def command_line_config(words: list[str]) -> RunConfig:
    """The config of a command line's overrides: of the FP model, with as many samples as there are held-out clips."""
    return compose_run_config([f"n_videos={HELD_OUT_CLIPS}", "quantizer=fp", *words])


def main() -> None:
    with one_line_errors():
        config = command_line_config(sys.argv[1:])
        check_device(config.device)
        title = f"Attribute accuracy, {config.model_name}, {config.num_inference_steps} steps"
        render_terminal(measure(config).table(title))


if __name__ == "__main__":
    main()
