"""Files of weights, and what is wrong with one in a single line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MOST_NAMED = 3


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What `torch.save` wrote, on the CPU; nothing in it is executed.

    Raises:
        ValueError: not such a file, or no mapping in it.
        OSError: cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever pickle makes of other bytes
        raise ValueError(f"{path}: not a file of weights ({_first_line(error)})") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not weights by their names")
    return dict(content)


def read_torchscript(path: str | Path) -> torch.jit.ScriptModule:
    """A network that TorchScript saved, on the CPU.

    Raises:
        ValueError: not such a file.
    """
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a TorchScript network ({_first_line(error)})") from None


def load_weights_(module: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Fill a network with the weights that were read from `path`.

    Raises:
        ValueError: weights are missing, unknown or of other shapes.
    """
    own = module.state_dict()
    wrong = {
        "are missing": [name for name in own if name not in state],
        "are unknown": [name for name in state if name not in own],
        "are of other shapes": [name for name in own if name in state and own[name].shape != state[name].shape],
    }
    found = [f"{len(names)} {how} ({', '.join(names[:MOST_NAMED])})" for how, names in wrong.items() if names]
    if found:
        raise ValueError(f"{path}: not the weights of {type(module).__name__}: {'; '.join(found)}")
    module.load_state_dict(state)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
