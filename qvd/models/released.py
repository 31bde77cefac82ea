"""Class-conditional and unconditional Latte as its own training script writes it (github.com/Vchitect/Latte)."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qvd.models.integrity import check_loading, reading

FIRST_WEIGHT = "x_embedder.proj.weight"  # of a bare state dict
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def load_released(network: nn.Module, checkpoint: Path, where: str) -> nn.Module:
    """Load a checkpoint into an empty `ClassLatte`: `{"ema", "model", …}`, of which the EMA is taken as the released
    sampling does (utils.py, find_model), or a bare state dict. Names may carry a wrapper's prefix.

    Args:
        network: on the meta device.
        checkpoint: read as plain weights; of pickled objects only the training script's `argparse.Namespace` is let in.
        where: names the checkpoint in messages.

    Raises:
        ValueError: a file that is none, or weights that are missing, unknown or of another shape; in one line.
    """
    with reading(where), torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state, expected = _state_dict(content, where), network.state_dict()
    info = {
        "missing_keys": expected.keys() - state.keys(),
        "unexpected_keys": state.keys() - expected.keys(),
        "mismatched_keys": [
            (name, state[name].shape, tensor.shape)
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    check_loading(info, type(network), where)
    network.load_state_dict(state, assign=True)
    return network


def _state_dict(content: Any, where: str) -> dict[str, Tensor]:
    """The weights in what a checkpoint holds, by the network's own names."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: holds {type(content).__name__}, no weights")
    if "ema" not in content and "model" in content:
        warnings.warn(f"{where}: has no EMA weights; the trained ones are read", stacklevel=3)
    weights = content.get("ema", content.get("model", content))
    if not isinstance(weights, dict):
        raise ValueError(f"{where}: its weights are {type(weights).__name__}, no state dict")
    state = {_own_name(str(name)): tensor for name, tensor in weights.items() if isinstance(tensor, Tensor)}
    if FIRST_WEIGHT not in state:
        held = ", ".join(sorted(map(str, weights))[:3])
        raise ValueError(f"{where}: no Latte checkpoint; it holds {held or 'nothing'}")
    return state


def _own_name(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
