"""The store under damage, errors, deaths and crowds, counted."""

from collections.abc import Iterator

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.torture.damage import DAMAGE, PASSING, Verdict, judge, judge_passing
from tests.torture.faults import DOORS, ERRNOS, SITUATIONS, count_calls, judge_crowd, judge_death, judge_error

CROWDS = 5  # repetitions


def deaths(every: int) -> Iterator[Verdict]:
    """At every call, in every situation, through both doors."""
    for situation, door in _ways():
        for at in range(0, len(count_calls(situation, door)), every):
            yield judge_death(situation, door, at)


def errors(every: int) -> Iterator[Verdict]:
    """Every errno at every call, once and lasting; by one door, which makes every kind of call."""
    for situation in SITUATIONS:
        faults = [
            (at, number, lasting)
            for at in range(len(count_calls(situation, "fetch")))
            for number in ERRNOS
            for lasting in (False, True)
        ]
        for at, number, lasting in faults[::every]:
            yield judge_error(situation, "fetch", at, number, lasting)


def crowds(every: int) -> Iterator[Verdict]:
    return (judge_crowd(situation) for situation in SITUATIONS for _ in range(0, CROWDS, every))


KINDS = {
    "kinds of damage": lambda every: map(judge, list(DAMAGE)[::every]),
    "whole files that cannot be read just now": lambda every: map(judge_passing, PASSING[::every]),
    "killed at a call to the system": deaths,
    "errors of a call to the system": errors,
    "8 processes at once": crowds,
}


def main(every: int) -> int:
    """Print a table of what was injected and survived, with what was not; 1 where anything was not."""
    torch.set_num_threads(1)
    table, console, wrong = Table("fault", "injected", "survived", box=None), Console(), list[Verdict]()
    for kind, faults in KINDS.items():
        verdicts = list(track(faults(every), kind, total=None, console=Console(stderr=True), transient=True))
        wrong += [verdict for verdict in verdicts if not verdict.right]
        table.add_row(kind, str(len(verdicts)), str(sum(verdict.right for verdict in verdicts)))
    console.print(table)
    for verdict in wrong:
        console.print(f"not survived: {verdict.name}: {verdict.outcome}", soft_wrap=True)
    return bool(wrong)


def _ways() -> Iterator[tuple[str, str]]:
    return ((situation, door) for situation in SITUATIONS for door in DOORS)
