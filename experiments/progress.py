"""Progress bars with ETA, on stderr. Only this room draws them; the libraries below stay silent.

What begins is logged too, the bars are not.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
log = logging.getLogger(__name__)


def bars(console: Console) -> Progress:
    """What every bar shows: how much of how much, time elapsed, ETA."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    )


class Reporter:
    """Names the arm in work and shows how far each stage is."""

    def __init__(self, quiet: bool = False) -> None:
        """`quiet`: show nothing."""
        self.console = Console(stderr=True, quiet=quiet)
        self.arm = ""

    def say(self, text: str) -> None:
        """One line, as it is, on the terminal and in the log."""
        self.show(text)
        if not self.console.quiet:
            log.info("%s", text)

    def show(self, text: str) -> None:
        """One line on the terminal alone."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def track(self, items: Collection[T], description: str) -> Iterator[T]:
        """Iterate with a bar; where stderr is no terminal, one line per stage instead."""
        text = f"{self._prefix()}{description}"
        self._begin(f"{text} ({len(items)})")
        if not self.console.is_terminal:
            yield from items
            return
        with bars(self.console) as progress:
            yield from progress.track(items, total=len(items), description=text)

    def note(self, text: str) -> AbstractContextManager:
        """A spinner, or one line, for work whose length is unknown."""
        text = f"{self._prefix()}{text}"
        self._begin(text)
        return self.console.status(text) if self.console.is_terminal else nullcontext()

    def _begin(self, text: str) -> None:
        """Where there is a bar or spinner, it says on the terminal what has begun."""
        if self.console.quiet:
            return
        log.info("%s", text)
        if not self.console.is_terminal:
            self.show(text)

    @contextmanager
    def on_arm(self, name: str) -> Iterator[None]:
        self.arm = name
        yield
        self.arm = ""

    def _prefix(self) -> str:
        return f"{self.arm}: " if self.arm else ""
