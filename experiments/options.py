"""What a run can be told beside model, method and protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class EngineOptions:
    """conf/engine: nothing that every engine can be told; how many processes is the run's `workers`."""


MOST_LETTERS, RESERVED = 128, "/\\#?%:"  # what wandb takes as the name of a project


class TrackingMode(Enum):
    """What becomes of a run: kept in the run folder, sent to the server, or not recorded."""

    offline = "offline"
    online = "online"
    disabled = "disabled"


@dataclass(frozen=True)
class Tracking:
    """conf/tracking: where the runs go.

    Attributes:
        mode: see `TrackingMode`.
        project: wandb project.
        entity: wandb user or team; None takes the account's default.
    """

    mode: TrackingMode = TrackingMode.offline
    project: str = "qvd"
    entity: str | None = None

    def __post_init__(self) -> None:
        for field in ("project", "entity"):
            name = getattr(self, field)
            if name is not None and (not 0 < len(name) <= MOST_LETTERS or set(name) & set(RESERVED)):
                raise ValueError(
                    f"tracking.{field}={name!r}: must have 1 to {MOST_LETTERS} characters other than {RESERVED}"
                )
