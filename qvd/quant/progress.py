"""How libraries report progress without a bar of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def no_progress(items: Iterable[Any], description: str) -> Iterable[Any]:
    """The silent progress bar."""
    return items
