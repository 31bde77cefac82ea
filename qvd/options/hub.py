"""Where a model's files lie: beside the code, in a local folder, or on the hub."""

from __future__ import annotations

import re
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
HUB_ID = re.compile(r"[\w.\-]+/[\w.\-]+")


def local_folder(path: str, embedded: bool, marker: str) -> Path | None:
    """The folder at `path` if it holds the file `marker`; embedded paths lie in `qvd/models`."""
    folder = Path(path)
    if not folder.is_absolute() and embedded:
        folder = MODELS / folder
    return folder if (folder / marker).is_file() else None


def check_folder(path: str, embedded: bool, marker: str, option: str = "model.path") -> None:
    """Refuse what is neither a folder that holds `marker` nor a hub id.

    Raises:
        FileNotFoundError: naming `option`, the config key.
    """
    is_hub_id = not embedded and HUB_ID.fullmatch(path) and not Path(path).is_dir()
    if local_folder(path, embedded, marker) is None and not is_hub_id:
        raise FileNotFoundError(f"{option}={path}: no diffusers pipeline there ({marker} is missing)")
