"""How libraries report progress without a bar of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

Progress = Callable[[Collection[Any], str], Iterable[Any]]


def no_progress(items: Collection[Any], description: str) -> Iterable[Any]:
    """The silent progress bar."""
    return items
