"""Where the code and its libraries came from."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiments.config.run_config import RunConfig

_REPOSITORY = Path(__file__).parents[1]
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "safetensors", "wandb")
log = logging.getLogger(__name__)


def provenance() -> dict[str, Any]:
    """Commit and whether the tree differs from it (None outside a git checkout), versions, platform, UTC date."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "git_commit": commit,
        "git_dirty": None if changes is None else bool(changes),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def log_environment(config: RunConfig) -> None:
    """In the log: code, versions, platform, device, threads and processes, store."""
    device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else config.device
    facts = {**provenance(), "device": device, "threads": torch.get_num_threads(), "workers": config.workers}
    log.info("%s", ", ".join(f"{name} {value}" for name, value in {**facts, "store": config.store}.items()))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", _REPOSITORY, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
