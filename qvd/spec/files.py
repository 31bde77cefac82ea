"""A quantization as a file: `quantization.safetensors`, of the format that `Quantization.metadata` describes."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save as save_tensors

from qvd.spec.quantization import Quantization
from qvd.store.files import write_atomically
from qvd.store.tensors import open_tensors

FORMAT_VERSION = 1
FILE = "quantization.safetensors"


def save(quantization: Quantization, folder: str | Path) -> Path:
    """Write `quantization.safetensors` (integer codes, packed below 5 bits, scales, grids) and return its path."""
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    # Cloned, because safetensors refuses tensors that share memory, as the shifts behind one norm do.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in quantization.to_tensors().items()}
    write_atomically(path, save_tensors(tensors, {**quantization.metadata, "format_version": str(FORMAT_VERSION)}))
    return path


def load(folder: str | Path) -> Quantization:
    """What `save` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file that is damaged, none of ours, or of a newer version.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no quantized model there ({FILE} is missing)")
    with open_tensors(path) as content:
        metadata = content.metadata() or {}
        version = metadata.get("format_version", "none")
        if not version.isdigit() or int(version) > FORMAT_VERSION:
            raise ValueError(f"{path}: format version {version}: this version of qvd reads up to {FORMAT_VERSION}")
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    return Quantization.from_tensors(tensors, metadata)
