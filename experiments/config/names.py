"""Names of a run that end as tags, labels and parts of file names: refused before anything is computed."""

from __future__ import annotations

from typing import Any

MOST_LETTERS = 64  # of a wandb tag and of its job type


def checked_name(value: Any, where: str) -> str:
    """The name as text; numbers are names too.

    Raises:
        ValueError: empty, too long, of other than printable characters, or with a separator of paths in it.
    """
    name = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not 0 < len(name) <= MOST_LETTERS or not name.isprintable() or name != name.strip() or set(name) & set("/\\"):
        raise ValueError(
            f"{where}={value!r}: must have 1 to {MOST_LETTERS} printable characters, no / or \\, no blanks at its ends"
        )
    return name
