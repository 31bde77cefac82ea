"""What a run can be told beside model, method and protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class EngineOptions:
    """conf/engine: nothing that every engine can be told; how many processes is the run's `workers`."""


@dataclass(frozen=True)
class Export:
    """Which videos of every arm are written to the run folder.

    Attributes:
        videos: `all`, `none`, or the first so many; H.264, named as VBench reads them.
        frames: their frames as PNG too, which lose nothing.
    """

    videos: int | str = "none"
    frames: bool = False

    def __post_init__(self) -> None:
        if self.videos not in ("all", "none") and (isinstance(self.videos, str) or self.videos < 1):
            raise ValueError(f"export.videos={self.videos}: allowed are all, none, or a number of at least 1")
        if self.frames and self.videos == "none":
            raise ValueError("export.frames=true: no video is exported; give export.videos=all or a number")

    def count(self, n_videos: int) -> int:
        """How many of an arm's videos."""
        if isinstance(self.videos, str):
            return n_videos if self.videos == "all" else 0
        return min(self.videos, n_videos)


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
