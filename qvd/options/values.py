"""What no option can be, whatever else it is: not a number that is none or without end, nor a text without end.

What one option allows beside that is said by its dataclass.
"""

from __future__ import annotations

import unicodedata
from typing import Any

MOST = 10**6  # of any number, either way: no option's sensible values come near
MOST_SEEDS = 2**32  # as many as numpy takes
MOST_LETTERS = 4096  # what a path may have
_SHOWN = 40  # letters of a refused text


def check_values(value: Any, where: str) -> None:
    """Refuse numbers that are not finite or out of all proportion, seeds that are none, and endless texts, anywhere in
    a tree of mappings and lists.

    Args:
        value: the tree; what is neither mapping, list, number nor text is not looked at.
        where: its key.

    Raises:
        ValueError: naming the key of the first, and what is allowed.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_values(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            check_values(inner, f"{where}[{number}]")
    elif isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, where)


def _check_number(value: float, where: str) -> None:
    if where.rpartition(".")[2].endswith("seed"):
        if not (isinstance(value, int) and 0 <= value < MOST_SEEDS):
            raise ValueError(f"{where}={_shown(value)}: must be an integer of at least 0, below 2**32")
    elif not abs(value) <= MOST:  # nan is not
        raise ValueError(f"{where}={_shown(value)}: must be finite, and at most {MOST:,} in size")


def _shown(value: float) -> str:
    """A whole number of any length is a valid one to Python."""
    return str(value) if isinstance(value, float) or abs(value) < 10**_SHOWN else f"a number over 10**{_SHOWN}"


def _check_text(value: str, where: str) -> None:
    if len(value) > MOST_LETTERS:
        raise ValueError(f"{where}={value[:_SHOWN]}…: has {len(value)} characters, at most {MOST_LETTERS} are allowed")
    for letter in value:
        if unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\n":  # a control, half a letter
            raise ValueError(f"{where}={value[:_SHOWN]!r}: {letter!r} can be in no path or prompt")
