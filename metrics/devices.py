"""Devices by the names that people give them."""

from __future__ import annotations

import torch


def check_device(name: str) -> None:
    """Put one number on the device.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name}: cannot be used ({reason}); cpu always can") from None
