"""Errors and deaths at every call that the store makes to the system, one at a time."""

import builtins
import errno
import io
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from qvd.store import files
from qvd.store.artifacts import Store
from tests.torture.damage import ERROR, FINE, RECOMPUTED, SEEDS, Verdict, compute, filled, flip, in_fork, is_true, read

ERRNOS = (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.ESTALE)
NAMED = {  # functions that are told a path
    os: ("stat", "open", "replace", "rename", "unlink", "rmdir", "mkdir", "scandir", "listdir"),
    io: ("open",),
    builtins: ("open",),
}
OPENED = ("fsync", "close", "write", "read")  # told a descriptor


class Calls:
    """The calls of this process to the system that concern a folder, in order, and what is done at one of them.

    Args:
        root: the folder.
        at: the number of the call at which `action(what, place)` comes, before it; with `lasting` at all later ones
            too.
    """

    def __init__(self, root: Path, at: int = -1, action: Callable[[str], None] = print, lasting: bool = False) -> None:
        self.root, self.at, self.action, self.lasting = str(root), at, action, lasting
        self.made: list[str] = []
        self.descriptors: set[int] = set()
        self.inside = False

    def meet(self, what: str) -> None:
        number = len(self.made)
        self.made.append(what)
        if number == self.at or (self.lasting and number > self.at >= 0):
            self.action(what)

    def concerns(self, place) -> bool:
        if isinstance(place, int):
            return place in self.descriptors
        return not self.inside and isinstance(place, str | os.PathLike) and str(place).startswith(self.root)

    def wrap(self, name: str, original: Callable) -> Callable:
        def call(*arguments, **options):
            if not arguments or not self.concerns(arguments[0]):
                return original(*arguments, **options)
            self.meet(name)
            self.inside = True
            try:
                result = original(*arguments, **options)
            finally:
                self.inside = False
            if name == "open":
                result = self.watched(result)
            elif name == "close":
                self.descriptors.discard(arguments[0])
            return result

        return call

    def watched(self, opened):
        if isinstance(opened, int):
            self.descriptors.add(opened)
            return opened
        self.descriptors.add(opened.fileno())
        return Handle(opened, self)


class Handle:
    """An open file whose reads and writes are calls as well; at half of a write there is one more."""

    def __init__(self, handle, calls: Calls) -> None:
        self.handle, self.calls = handle, calls

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.calls.descriptors.discard(self.handle.fileno())
        self.handle.close()

    def __getattr__(self, name):
        return getattr(self.handle, name)

    def read(self, *arguments):
        self.calls.meet("read")
        return self.handle.read(*arguments)

    def readinto(self, *arguments):
        self.calls.meet("readinto")
        return self.handle.readinto(*arguments)

    def write(self, data):
        self.calls.meet("write")
        half = len(data) // 2
        self.handle.write(data[:half])
        self.handle.flush()
        self.calls.meet("half a write")
        return half + self.handle.write(data[half:])


@contextmanager
def watching(calls: Calls):
    """While open, the process's calls go through `calls`."""
    originals = [(module, name, getattr(module, name)) for module, names in NAMED.items() for name in names]
    originals += [(os, name, getattr(os, name)) for name in OPENED]
    for module, name, original in originals:
        setattr(module, name, calls.wrap(name, original))
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def prepare_empty(root: Path) -> None:
    (root / "store").mkdir()


def prepare_filled(root: Path) -> None:
    filled(root)


def prepare_damaged(root: Path) -> None:
    flip(filled(root).tensors, -3)


def prepare_half(root: Path) -> None:
    filled(root).tensors.unlink()


# What a store is like before it is asked for an artifact, and what asking comes to where nothing goes wrong.
SITUATIONS = {
    "empty": (prepare_empty, RECOMPUTED),
    "whole": (prepare_filled, FINE),
    "damaged": (prepare_damaged, RECOMPUTED),
    "half": (prepare_half, RECOMPUTED),
}
DOORS = ("fetch", "fetch_file")


def count_calls(situation: str, door: str) -> list[str]:
    """The calls of one fetch."""

    def run(root: Path) -> str:
        calls = Calls(root)
        with watching(calls):
            read(root, door)
        return ",".join(calls.made)

    return _in_folder(situation, run).split(",")


def judge_death(situation: str, door: str, at: int) -> Verdict:
    """Killed at a call; the next process is handed what was computed, and finds no leftovers."""

    def run(root: Path) -> str:
        def die() -> str:
            with watching(Calls(root, at, lambda what: os._exit(9))):
                read(root, door)
            return "lived"

        if (ended := in_fork(die)) != "traceback":  # no answer
            return f"was not killed: {ended}"
        outcome = in_fork(lambda: read(root, door))
        if outcome not in (FINE, RECOMPUTED):
            return outcome
        in_fork(lambda: read_another(root))
        left = [path.name for path in root.rglob("*.partial")]
        if left:
            return f"left {left}"
        return in_fork(lambda: read(root, "fetch"))

    outcome = _in_folder(situation, run)
    return Verdict(f"{situation}, {door}: killed at call {at}", outcome, outcome == FINE)


def judge_error(situation: str, door: str, at: int, number: int, lasting: bool) -> Verdict:
    """A call, or every one from then on, fails: true values or one line; nothing whole is set aside; then all is well.

    One error that passes must not be seen at all where calls are tried again, so it may be overcome or told.
    """

    def run(root: Path) -> str:
        before = set(root.rglob("*.damaged"))
        files.PAUSES = (0.0, 0.0, 0.0)

        def fail(what: str) -> None:
            raise OSError(number, os.strerror(number), what)

        with watching(Calls(root, at, fail, lasting)):
            outcome = read(root, door)
        if outcome not in (FINE, RECOMPUTED, ERROR):
            return outcome
        aside = {path.name for path in root.rglob("*.damaged")} - before
        if aside and situation != "damaged":
            return f"set aside {sorted(aside)}"
        after = in_fork(lambda: read(root, door))
        return outcome if after in (FINE, RECOMPUTED) else f"{outcome}, then {after}"

    outcome = _in_folder(situation, run)
    length = "all from" if lasting else "one"
    name = f"{situation}, {door}: {errno.errorcode[number]} at {length} call {at}"
    return Verdict(name, outcome, outcome in (FINE, RECOMPUTED, ERROR))


def read_another(root: Path) -> str:
    """An artifact that was not there, so that a store sweeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store(root / "store").fetch("other", {"seed": 5}, lambda: compute(5))
    return FINE


def judge_crowd(situation: str, processes: int = 8) -> Verdict:
    """Several processes ask at once: each is handed true values, one of them computes."""

    def run(root: Path) -> str:
        log, children = root / "log", []
        for _ in range(processes):
            child = os.fork()
            if child == 0:
                os._exit(_asks(root, log))
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        computed = len(log.read_text()) if log.exists() else 0
        if any(codes):
            return f"exit codes {codes}"
        expected = 0 if situation == "whole" else 1
        return FINE if computed == expected else f"computed {computed} times"

    outcome = _in_folder(situation, run)
    return Verdict(f"{situation}: {processes} processes at once", outcome, outcome == FINE)


def _asks(root: Path, log: Path) -> int:
    def noting():
        with log.open("a") as handle:
            handle.write("x")
        return compute(SEEDS[0])

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return 0 if is_true(Store(root / "store").fetch("stage", {"seed": SEEDS[0]}, noting)) else 3
    except BaseException:
        return 4


def _in_folder(situation: str, run: Callable[[Path], str]) -> str:
    prepare, _ = SITUATIONS[situation]
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        return in_fork(lambda: run(Path(folder)), 20.0)
