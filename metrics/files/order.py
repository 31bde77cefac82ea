"""The one order of all that people bring as files: by name, numbers by their value, so that 2.avi precedes 10.avi."""

from __future__ import annotations

import re
from os.path import splitext
from pathlib import PurePath

_NUMBER = re.compile(r"(\d+)")
_Key = tuple[str | int, ...]


def natural_key(path: str | PurePath) -> tuple[tuple[_Key, _Key, str], ...]:
    """Sorts paths folder by folder and names with their runs of digits as numbers, a name before the longer ones that
    begin with it; 01 and 1, which are equal then, by their spelling."""
    keys = []
    for part in PurePath(path).parts:
        stem, suffix = splitext(part)
        keys.append((_text_and_numbers(stem), _text_and_numbers(suffix), part))
    return tuple(keys)


def _text_and_numbers(text: str) -> _Key:
    """Text and numbers in turn, text first, so that like is compared with like."""
    return tuple(int(part) if odd % 2 else part for odd, part in enumerate(_NUMBER.split(text)))
