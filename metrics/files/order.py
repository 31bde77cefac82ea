"""The one order of all that people bring as files: by name, numbers by their value, so that 2.avi precedes 10.avi."""

from __future__ import annotations

import re
from pathlib import PurePath

_NUMBER = re.compile(r"(\d+)")
_PartKey = tuple[tuple[str | int, ...], str]


def natural_key(path: str | PurePath) -> tuple[_PartKey, ...]:
    """Sorts paths folder by folder and names with their runs of digits as numbers; 01 and 1, which are equal then, by
    their spelling."""
    return tuple((_text_and_numbers(part), part) for part in PurePath(path).parts)


def _text_and_numbers(name: str) -> tuple[str | int, ...]:
    """Text and numbers in turn, text first, so that like is compared with like."""
    return tuple(int(part) if odd % 2 else part for odd, part in enumerate(_NUMBER.split(name)))
