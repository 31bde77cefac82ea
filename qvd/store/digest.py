"""SHA-256 of values and of files: what keys are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any


def fingerprint(description: Any) -> str:
    """SHA-256 of a JSON-compatible value, independent of key order; an enum counts as its value."""
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=enum_value).encode()).hexdigest()


def enum_value(option: Enum) -> Any:
    """For json's `default`."""
    return option.value


def file_digest(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in name order."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as handle:
            total.update(path.name.encode() + hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()
