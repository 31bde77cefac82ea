"""Weights that are downloaded once and checked against their SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from metrics.extractors.base import file_sha256


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: file name in the cache.
        url: where it is published.
        sha256: of the file, hex.
    """

    name: str
    url: str
    sha256: str


STYLEGANV_I3D = RemoteFile(
    "i3d_torchscript.pt",
    "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
)

VIDEOMAE_GIANT = RemoteFile(
    "vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    "https://huggingface.co/OpenGVLab/VideoMAE2/resolve/97d119d270aca7a1217fff7f413c0c543eb325d9/"
    "mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
    "5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
)


def fetch(file: RemoteFile, folder: Path | None = None) -> Path:
    """Path of the verified file, downloading it if it is not in the cache yet.

    Args:
        file: what to fetch.
        folder: the cache; by default torch.hub's `checkpoints`, which TORCH_HOME moves.

    Raises:
        FileNotFoundError: the download failed, for instance offline; says where to put the file by hand.
        ValueError: the file's checksum is wrong.
    """
    path = (folder or Path(torch.hub.get_dir()) / "checkpoints") / file.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(file.url, str(path), progress=False)
        except OSError as error:
            raise FileNotFoundError(
                f"{file.name} could not be downloaded from {file.url} ({error}); "
                f"fetch it on another machine and give its path, or put it at {path}"
            ) from error
    found = file_sha256(path)
    if found != file.sha256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {file.sha256}; delete it and try again")
    return path
