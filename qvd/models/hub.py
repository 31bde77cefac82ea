"""Finding a model's files: beside this module, in a local folder, or in the hub's cache."""

from __future__ import annotations

import re
from pathlib import Path

HUB_ID = re.compile(r"[\w.\-]+/[\w.\-]+")
# A part's own repository holds its weights in several formats.
PART_FILES = ["config.json", "diffusion_pytorch_model.safetensors"]


def local_folder(path: str, embedded: bool, marker: str) -> Path | None:
    """The folder at `path` if it holds the file `marker`; embedded paths lie beside this module."""
    folder = Path(path)
    if not folder.is_absolute() and embedded:
        folder = Path(__file__).parent / folder
    return folder if (folder / marker).is_file() else None


def find_folder(path: str, revision: str | None, embedded: bool, marker: str, option: str = "model.path") -> Path:
    """A local folder, or a hub id's snapshot, which is downloaded once.

    Args:
        path: folder or hub id.
        revision: commit, tag or branch of a hub id.
        embedded: whether `path` is relative to this package.
        marker: a file that must be in it: `model_index.json` of a pipeline, `config.json` of a part, or a checkpoint,
            which then is all that is downloaded.
        option: the config key, for errors.

    Raises:
        FileNotFoundError: in one line: what is missing, what to download, and where to put it.
    """
    folder = local_folder(path, embedded, marker)
    if folder is not None:
        return folder
    if embedded or not HUB_ID.fullmatch(path) or Path(path).is_dir():
        raise FileNotFoundError(f"{option}={path}: no diffusers pipeline there ({marker} is missing)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        if marker == "model_index.json":
            from diffusers import DiffusionPipeline

            return Path(DiffusionPipeline.download(path, revision=revision))
        wanted = PART_FILES if marker == "config.json" else [marker]
        return Path(snapshot_download(path, revision=revision, allow_patterns=wanted))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        pinned = f" --revision {revision}" if revision else ""
        raise FileNotFoundError(
            f"{option}={path}: not in the hub's cache and not reachable ({type(error).__name__}); where there is a "
            f"network run `hf download {path}{pinned} --local-dir FOLDER`, copy FOLDER here and give {option}=FOLDER"
        ) from error
