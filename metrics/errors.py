"""How bad input and interruptions end a command: one line on stderr and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143
BAD = (ValueError, OSError)  # what a user can put right


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler takes the machine back. What Ctrl-C tidies up, this does too."""


class VideoError(ValueError):
    """Files that do not hold the clips asked for; the message has a line for each."""


def unreadable(path: Path, error: OSError) -> VideoError:
    """For a file that the system does not let us read."""
    reason = "a link to nowhere" if path.is_symlink() and not os.path.exists(path) else error.strerror
    return VideoError(f"{path}: cannot be read: {reason}")


@contextmanager
def one_line_errors(
    when_interrupted: str = "the same command goes on where this one stopped", log: Path | None = None
) -> Iterator[None]:
    """Turn ValueError and OSError into one line, or one for each unusable video, Ctrl-C and SIGTERM into one too, and
    a bug where its traceback is in `log`; HYDRA_FULL_ERROR=1 shows the traceback instead."""
    warnings.showwarning = one_line_warning
    with _sigterm_interrupts():
        try:
            yield
        except Exception as error:
            if wants_traceback() or not (isinstance(error, BAD) or _is_there(log)):
                raise
            print_error(error, log)
            raise SystemExit(exit_code(error)) from None
        except Terminated:
            print(f"terminated: {when_interrupted}", file=sys.stderr)
            raise SystemExit(TERMINATED) from None
        except KeyboardInterrupt:
            print(f"interrupted: {when_interrupted}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises `Terminated` as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def terminate(number: int, frame: FrameType | None) -> None:
    """Handler of SIGTERM: once, for a scheduler tells a whole process group, and the run its workers once more.

    Raises:
        Terminated: always.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def exit_code(error: Exception) -> int:
    """`BAD_INPUT` for what a user can put right; `FAILED` for a bug and for a worker that was killed."""
    return BAD_INPUT if isinstance(error, BAD) and not isinstance(error, ChildProcessError) else FAILED


def print_error(error: Exception, log: Path | None = None) -> None:
    """On stderr: one line, or one for each unusable video; of what is not the input's fault one that names the log
    which has its traceback, or the traceback."""
    if isinstance(error, BAD) and not wants_traceback():
        print("\n".join(f"error: {line}" for line in error_lines(error)), file=sys.stderr)
    elif _is_there(log) and not wants_traceback():
        print(f"error: {_bug_line(error)} (a bug; {log} has its traceback)", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _is_there(log: Path | None) -> bool:
    return log is not None and log.is_file()


def _bug_line(error: Exception) -> str:
    """Type and message in one line; of a worker's traceback its last line, which is both."""
    lines = str(error).strip().splitlines() or [""]
    return lines[-1] if lines[0].startswith("Traceback") else f"{type(error).__name__}: {lines[0]}"


def wants_traceback() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def error_lines(error: Exception) -> list[str]:
    """What an error says, in one line or in one for each unusable video."""
    if isinstance(error, VideoError):
        return str(error).splitlines()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return [f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"]
    return [" ".join(str(error).split())]


def one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """In the place of `warnings.showwarning`: a user's warnings, one line each."""
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
