"""The card beside shipped weights: what they are, how they were made, and their SHA-256."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import torch

from metrics.extractors.base import file_sha256


def write_card(folder: Path, title: str, purpose: str, facts: dict[str, str]) -> None:
    """Write `folder`/README.md.

    Args:
        folder: holds the weights, *.safetensors at any depth.
        title: the card's heading.
        purpose: one paragraph.
        facts: rows of the table; torch's version and the date are added.
    """
    facts = {**facts, "machine": f"2 CPU cores, torch {torch.__version__}", "date": str(date.today())}
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    weights = sorted(folder.rglob("*.safetensors"))
    digests = "\n".join(f"- `{path.relative_to(folder)}` {file_sha256(path)}" for path in weights)
    (folder / "README.md").write_text(f"# {title}\n\n{purpose}\n\n| | |\n|---|---|\n{rows}\n\nSHA-256:\n\n{digests}\n")
