"""Where a model's files lie: beside the code, in a local folder, or on the hub."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parents[1] / "models"
HUB_ID = re.compile(r"[\w.\-]+/[\w.\-]+")


def local_folder(path: str, embedded: bool, marker: str) -> Path | None:
    """The folder at `path` if it holds the file `marker`; embedded paths lie in `qvd/models`."""
    folder = Path(path)
    if not folder.is_absolute() and embedded:
        folder = MODELS / folder
    return folder if os.path.isfile(folder / marker) else None


def check_folder(path: str, embedded: bool, marker: str, option: str = "model.path") -> None:
    """Refuse what is neither a folder that holds `marker` nor a hub id.

    Raises:
        FileNotFoundError: naming `option`, the config key.
    """
    is_hub_id = not embedded and HUB_ID.fullmatch(path) and not os.path.isdir(path)
    if local_folder(path, embedded, marker) is None and not is_hub_id:
        raise FileNotFoundError(f"{option}={path}: no diffusers pipeline there ({marker} is missing)")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: anything else than one JSON object in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # of the encoding or of the syntax
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a JSON object, holds {type(content).__name__}")
    return content


def read_key(path: Path, key: str) -> Any:
    """One value of the object in a JSON file.

    Raises:
        FileNotFoundError, ValueError: as `read_json`; ValueError too where the key is absent.
    """
    content = read_json(path)
    if key not in content:
        raise ValueError(f"{path}: {key} is missing")
    return content[key]
