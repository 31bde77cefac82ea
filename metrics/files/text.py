"""Text files that people bring: UTF-8, with or without a byte order mark; what is wrong with one is a single line."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any


def read_text(file: str | Path) -> str:
    """The content, every line end as a newline.

    Raises:
        ValueError: no such file, a folder, or not UTF-8.
    """
    file = Path(file)
    if not os.path.isfile(file):
        raise ValueError(f"{file}: {'a folder, not a file' if os.path.isdir(file) else 'no such file'}")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"{file}: not UTF-8 text (byte {byte:#04x} at {error.start}); save it as UTF-8") from None


def read_json(file: str | Path) -> Any:
    """The content of a json file.

    Raises:
        ValueError: as `read_text`; no json, or a key that stands twice in one object, of which json keeps the last.
    """
    return parse_json(read_text(file), str(file))


def parse_json(text: str, where: str) -> Any:
    """The value of json text; `where` is named in errors, see `read_json`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        (key, times), *_ = Counter(key for key, _ in pairs).most_common(1) or [("", 0)]
        if times > 1:
            raise ValueError(f"{where}: the key {key!r} stands {times} times in one object")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not json: {error}") from None
