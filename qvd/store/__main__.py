"""The store looked at and cleaned: `python -m qvd.store ls | du | verify | gc | export | import`.

python -m qvd.store ls                        # by stage: how many, how large, how old
python -m qvd.store du outputs/runs           # by run: what each needs, and what it alone needs
python -m qvd.store verify                    # every checksum; exit code 1 where one differs
python -m qvd.store gc                        # what is of no use to anybody; --delete deletes it
python -m qvd.store gc outputs/runs           # and what no run below that folder needs
python -m qvd.store export mine.tar outputs/runs/2026-01-01/…
python -m qvd.store import mine.tar           # verified before it is taken in
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qvd.store.cleaning import DAY, plan, remove
from qvd.store.files import DamagedError, size_text
from qvd.store.inventory import Stored, ledgers, needed, take_inventory
from qvd.store.records import OtherFormatError, verify
from qvd.store.transfer import export_artifacts, import_artifacts

BAD, NOT_WHOLE, INTERRUPTED = 2, 1, 130
WIDE = 400  # columns where nobody looks, so that no name is folded


def main(arguments: list[str] | None = None) -> int:
    """Run a command; bad input is one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m qvd.store", description="Look at the store, and clean it.")
    default = os.environ.get("QVD_STORE", "outputs/store")
    parser.add_argument("--store", type=Path, default=default, metavar="DIR", help=f"the store ({default})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=command)
        return added

    def add_runs(added: argparse.ArgumentParser, nargs: str) -> None:
        added.add_argument("runs", nargs=nargs, type=Path, metavar="RUN", help="run folders, or folders above such")

    add("ls", _ls, "what is there, by stage")
    add_runs(add("du", _du, "what runs need"), "+")
    add("verify", _verify, "check every checksum")
    gc = add("gc", _gc, "list, or delete, what is of no use; with RUN also what none of these runs needs")
    add_runs(gc, "*")
    gc.add_argument("--delete", action="store_true", help="delete it; otherwise nothing is changed")
    about = "leave alone what is younger than so many days (1)"
    gc.add_argument("--older-than", type=_days, default=1.0, metavar="DAYS", help=about)
    export = add("export", _export, "write what runs need into a tar file")
    export.add_argument("archive", type=Path, metavar="FILE")
    add_runs(export, "+")
    add("import", _import, "take in what was exported").add_argument("archive", type=Path, metavar="FILE")
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of days, 0 or more")
    return days


def _ls(options: argparse.Namespace) -> int:
    found, stages = take_inventory(options.store), defaultdict(list)
    for stored in found.artifacts:
        stages[stored.place.stage].append(stored)
    rows = [[stage, *_sums(artifacts)] for stage, artifacts in stages.items()]
    _show(["stage", "artifacts", "size", "newest", "oldest"], [*rows, ["all", *_sums(found.artifacts)]])
    beside = {
        "halves of artifacts": len(found.halves),
        "set aside as damaged": len(found.damaged),
        "left by killed writes": len(found.abandoned),
        "folders of unfinished work": len(found.work),
    }
    print("; ".join(f"{name}: {count}" for name, count in beside.items() if count) or "nothing else")
    return 0


def _du(options: argparse.Namespace) -> int:
    stored = {artifact.place: artifact for artifact in take_inventory(options.store).artifacts}
    runs = {ledger.parent: needed(ledger, options.store) for ledger in ledgers(options.runs)}
    users = Counter(place for places in runs.values() for place in places)
    rows = []
    for run, places in runs.items():
        there = [stored[place] for place in places if place in stored]
        alone = sum(artifact.size for artifact in there if users[artifact.place] == 1)
        rows.append([str(run), *_sums(there), size_text(alone), str(len(places) - len(there))])
    _show(["run", "artifacts", "size", "newest", "oldest", "its own", "missing"], rows)
    rest = sum(artifact.size for place, artifact in stored.items() if place not in users)
    print(f"needed by none of them: {size_text(rest)}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    artifacts, wrong = take_inventory(options.store).artifacts, []
    for place in (stored.place for stored in artifacts):
        try:
            verify(place)
        except (DamagedError, OtherFormatError) as error:
            wrong.append([place.stage, place.key, str(error)])
    if wrong:
        _show(["stage", "key", "what is wrong"], wrong)
    print(f"{len(artifacts)} artifacts, {len(wrong)} of them not what was written, or of an earlier version")
    return NOT_WHOLE if wrong else 0


def _gc(options: argparse.Namespace) -> int:
    kept = {place for ledger in ledgers(options.runs) for place in needed(ledger, options.store)}
    removals = plan(options.store, kept if options.runs else None, options.older_than * DAY)
    counts, sizes, in_use = Counter[str](), Counter[str](), 0
    for removal in removals:
        size = removal.size
        if options.delete and not remove(removal):
            in_use += 1
            continue
        counts[removal.why] += 1
        sizes[removal.why] += size
    _show(["what", "number", "size"], [[why, str(counts[why]), size_text(sizes[why])] for why in counts])
    verb = "deleted" if options.delete else "could be deleted (--delete does it)"
    print(f"{size_text(sizes.total())} {verb}" + (f"; {in_use} in use, left alone" if in_use else ""))
    return 0


def _export(options: argparse.Namespace) -> int:
    places = {place for ledger in ledgers(options.runs) for place in needed(ledger, options.store)}
    print(f"{export_artifacts(places, options.archive)} artifacts in {options.archive}")
    return 0


def _import(options: argparse.Namespace) -> int:
    taken, known = import_artifacts(options.archive, options.store)
    print(f"{taken} artifacts taken in, {known} were there")
    return 0


def _sums(artifacts: Sequence[Stored]) -> list[str]:
    ages = [time.time() - artifact.modified for artifact in artifacts]
    oldest, newest = (_age(edge(ages)) if ages else "" for edge in (max, min))
    return [str(len(artifacts)), size_text(sum(artifact.size for artifact in artifacts)), newest, oldest]


def _age(seconds: float) -> str:
    for unit, length in (("d", DAY), ("h", 3600), ("min", 60)):
        if abs(seconds) >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _show(names: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


if __name__ == "__main__":
    sys.exit(main())
