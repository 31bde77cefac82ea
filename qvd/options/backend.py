"""What a backend can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackendOptions:
    """conf/backend: nothing that every backend can be told; one that can be told more extends this."""
