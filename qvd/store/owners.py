"""Whose an unfinished file is: its name says, so that what a killed process left is told from what is being written.

On the machine where it was written the process table answers. Of a file from elsewhere (a network folder, another
container) only its age tells, by the file system's own clock.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SUFFIX = ".partial"
FOREIGN_SECONDS = 24 * 3600.0  # a write from elsewhere is not taken for dead before
_NAME = re.compile(r"\.(?P<host>[^.]+)-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)\.[0-9a-f]+\.partial$")
_OLD_NAME = re.compile(r"\.(json|safetensors|latest)\.\d+\.partial$")  # of an earlier version, which told no machine
_PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: for people.
        machine: host, boot and process namespace: within one, process numbers can be compared.
        pid: its number.
        started: clock ticks from boot to its start, so that a number given again is another process; 0: unknown.
    """

    host: str
    machine: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Owner:
        return cls(*_machine(), os.getpid(), _started(os.getpid()) or 0)

    @classmethod
    def of(cls, path: Path) -> Owner | None:
        """The owner that a file's name tells."""
        found = _NAME.search(path.name)
        return found and cls(found["host"], found["machine"], int(found["pid"]), int(found["started"]))

    def __str__(self) -> str:
        return f"{self.host}-{self.machine}-{self.pid}-{self.started}"

    @property
    def is_near(self) -> bool:
        """Whether this machine's process table knows of it."""
        return self.machine == _machine()[1]

    @property
    def is_gone(self) -> bool:
        """Whether a process near by has ended."""
        if not self.started:
            return not _exists(self.pid)
        return _started(self.pid) != self.started


def partial_of(path: Path) -> Path:
    """A name, beside `path`, that no other write uses; it tells this process."""
    return path.with_name(f"{path.name}.{Owner.current()}.{secrets.token_hex(4)}{SUFFIX}")


def abandoned(folder: Path) -> Iterator[Path]:
    """Unfinished files below a folder that nobody writes any more; those of other programs are not looked at."""
    now = _file_system_time(folder)
    for path in folder.rglob(f"*{SUFFIX}"):
        owner = Owner.of(path)
        if owner is None and not _OLD_NAME.search(path.name):
            continue
        with suppress(FileNotFoundError):  # finished meanwhile
            near = owner is not None and owner.is_near
            if owner.is_gone if owner is not None and near else now - path.stat().st_mtime > FOREIGN_SECONDS:
                yield path


def sweep(folder: Path) -> int:
    """Delete abandoned files below a folder, and return how many bytes that freed."""
    freed = 0
    for path in list(abandoned(folder)):
        with suppress(OSError):  # deleted by another, or another user's
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed


@cache
def _machine() -> tuple[str, str]:
    """(host name, its digest with the boot and the process namespace)."""
    host = socket.gethostname()
    facts = [host]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with suppress(OSError):
            facts.append(read())
    return re.sub(r"[^A-Za-z0-9]", "_", host)[:24] or "host", hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """When a process started; None: there is none, or it is a zombie, or the system does not say."""
    try:
        state, *fields = (_PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _file_system_time(folder: Path) -> float:
    """Now, on the clock that gives files their times: a server's, where the folder is one's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()
