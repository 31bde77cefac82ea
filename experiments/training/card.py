"""The card beside shipped weights: what they are, how they were made, their SHA-256, and what they show.

`python -m experiments.training.card model=tiny_latte` draws samples and writes, or replaces, the section on them.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from datetime import date
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import nn

from experiments.attributes import Attributes, command_line_config, measure
from experiments.config.run_config import RunConfig
from experiments.report.media import frames_image
from experiments.report.tabular import to_markdown
from metrics.errors import one_line_errors
from metrics.extractors.base import file_sha256

SECTION, PICTURE = "Samples", "samples.png"
PICTURED = 6


def write_card(folder: Path, title: str, purpose: str, facts: dict[str, str]) -> None:
    """Write `folder`/README.md.

    Args:
        folder: holds the weights, *.safetensors at any depth.
        title: the card's heading.
        purpose: one paragraph.
        facts: rows of the table; machine, torch's version and the date are added.
    """
    machine = f"{os.cpu_count()} CPU cores, torch {torch.__version__}"
    facts = {**facts, "machine": machine, "date": str(date.today())}
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    weights = sorted(folder.rglob("*.safetensors"))
    digests = "\n".join(f"- `{path.relative_to(folder)}` {file_sha256(path)}" for path in weights)
    (folder / "README.md").write_text(f"# {title}\n\n{purpose}\n\n| | |\n|---|---|\n{rows}\n\nSHA-256:\n\n{digests}\n")


def ship(pipeline: DiffusionPipeline, folder: Path, purpose: str, facts: dict[str, str]) -> None:
    """Save a trained pipeline in fp16 safetensors in the hub's layout, with its card.

    Args:
        purpose: the card's paragraph; `{parameters}` in it becomes their number in millions.
        facts: see `write_card`.
    """
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    parameters = sum(parameter.numel() for network in networks for parameter in network.parameters()) / 1e6
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    write_card(folder, folder.name, purpose.format(parameters=parameters), facts)


def with_section(card: str, heading: str, section: str) -> str:
    """`card` with `section` in the place of the one under `## heading`, or at its end if there is none."""
    existing = re.compile(rf"^## {re.escape(heading)}\n.*?(?=\n+## |\n*\Z)", re.DOTALL | re.MULTILINE)
    if existing.search(card):
        return existing.sub(lambda _: section.rstrip(), card)
    return f"{card.rstrip()}\n\n{section.rstrip()}\n"


def write_samples(config: RunConfig, found: Attributes, command: str) -> Path:
    """Draw the first samples beside the card and write its section on them.

    Args:
        command: what repeats it.

    Returns:
        The card.
    """
    folder = config.model.folder()
    prompts = config.reference.prompts("evaluation", range(PICTURED))
    frames_image(found.samples[:PICTURED], prompts).save(folder / PICTURE, optimize=True)
    drawn = f"{config.num_inference_steps} steps, guidance {config.model.guidance_scale:g}, seed {config.seed}"
    section = (
        f"{to_markdown(found.table(SECTION))}\n"
        f"Printed and drawn by `{command}` ({drawn}). The first {PICTURED} prompts of the evaluation split, none left "
        f"out, frames from left to right:\n\n![A row per prompt, a column per frame]({PICTURE})\n"
    )
    card = folder / "README.md"
    card.write_text(with_section(card.read_text(), SECTION, section))
    return card


def main() -> None:
    words = sys.argv[1:]
    with one_line_errors():
        config = command_line_config(words)
        if not config.model.embedded:
            raise ValueError(f"model={config.model_name}: only embedded models have a card of ours")
        command = shlex.join(["python", "-m", "experiments.training.card", *words])
        print(write_samples(config, measure(config), command))


if __name__ == "__main__":
    main()
