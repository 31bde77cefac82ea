"""Finding a model's files: beside this module, in a local folder, or in the hub's cache."""

from __future__ import annotations

from pathlib import Path

import diffusers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from qvd.options.hub import check_folder, local_folder

# A part's own repository holds its weights in several formats.
PART_WEIGHTS = "diffusion_pytorch_model{}.safetensors"


def find_folder(
    path: str,
    revision: str | None,
    embedded: bool,
    marker: str,
    option: str = "model.path",
    variant: str | None = None,
) -> Path:
    """A local folder, or a hub id's snapshot, which is downloaded once.

    Args:
        path: folder or hub id.
        revision: commit, tag or branch of a hub id.
        embedded: whether `path` is relative to this package.
        marker: a file that must be in it: `model_index.json` of a pipeline, `config.json` of a part, or a checkpoint,
            which then is all that is downloaded.
        option: the config key, for errors.
        variant: of the weights' files that are downloaded; None: those that name none.

    Raises:
        FileNotFoundError: in one line: what is missing, what to download, and where to put it.
    """
    folder = local_folder(path, embedded, marker)
    if folder is not None:
        return folder
    check_folder(path, embedded, marker, option)
    try:
        if marker == "model_index.json":
            return Path(diffusers.DiffusionPipeline.download(path, revision=revision, variant=variant))
        weights = PART_WEIGHTS.format(f".{variant}" if variant else "")
        wanted = ["config.json", weights] if marker == "config.json" else [marker]
        return Path(snapshot_download(path, revision=revision, allow_patterns=wanted))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        pinned = f" --revision {revision}" if revision else ""
        raise FileNotFoundError(
            f"{option}={path}: not in the hub's cache and not reachable ({type(error).__name__}); where there is a "
            f"network run `hf download {path}{pinned} --local-dir FOLDER`, copy FOLDER here and give {option}=FOLDER"
        ) from error
