"""How bad input and interruptions end a command: one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BAD_INPUT, INTERRUPTED = 2, 130
BAD = (ValueError, OSError)  # what a user can put right


class VideoError(ValueError):
    """Files that do not hold the clips asked for; the message has a line for each."""


def unreadable(path: Path, error: OSError) -> VideoError:
    """For a file that the system does not let us read."""
    reason = "a link to nowhere" if path.is_symlink() and not os.path.exists(path) else error.strerror
    return VideoError(f"{path}: cannot be read: {reason}")


@contextmanager
def one_line_errors(when_interrupted: str = "the same command goes on where this one stopped") -> Iterator[None]:
    """Turn ValueError and OSError into one line, or one for each unusable video; HYDRA_FULL_ERROR=1 shows the traceback
    instead."""
    warnings.showwarning = one_line_warning
    try:
        yield
    except BAD as error:
        if _wants_traceback():
            raise
        print_error(error)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        print(f"interrupted: {when_interrupted}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def print_error(error: Exception) -> None:
    """On stderr: one line, or one for each unusable video; the traceback of what is not the input's fault."""
    if isinstance(error, BAD) and not _wants_traceback():
        print("\n".join(f"error: {line}" for line in error_lines(error)), file=sys.stderr)
    else:
        traceback.print_exception(error)


def _wants_traceback() -> bool:
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
