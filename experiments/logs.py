"""What run.log is told: conf/config.yaml says where it lies, the modules of this project what happens."""

from __future__ import annotations

import logging
import shlex
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

from metrics.errors import BAD, Terminated, error_lines, one_line_warning

OURS = ("experiments", "qvd", "metrics", "baselines")
RUN_LOG = "run.log"  # Hydra names it after run.py
log = logging.getLogger(__name__)


@contextmanager
def logged(folder: Path, words: Sequence[str]) -> Iterator[None]:
    """Log how a run or job begins and ends: the traceback of a bug, one line of all else."""
    warnings.showwarning = log_warning
    started = time.perf_counter()
    log.info("%s, in %s", shlex.join(["python", "run.py", *words]), folder)
    try:
        yield
    except BAD as error:
        for line in error_lines(error):
            log.error("%s", line)
        raise
    except Exception:
        log.exception("a bug:")
        raise
    except KeyboardInterrupt as error:
        how = "terminated" if isinstance(error, Terminated) else "interrupted"
        log.error("%s; the same command goes on", how)
        raise
    finally:
        log.info("ended after %.1f s", time.perf_counter() - started)


def log_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """In the place of `warnings.showwarning`: as on every terminal, and in the log, where libraries' are told too."""
    one_line_warning(message, category, filename, lineno, file, line)
    log.warning("%s", message if issubclass(category, UserWarning) else f"{category.__name__} in {filename}: {message}")


def forward(queue: Any) -> None:
    """Have the log of this process, a worker, handed to the run by its queue."""
    warnings.showwarning = log_warning
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(QueueHandler(queue))


def receive(record: logging.LogRecord) -> None:
    """Log what a worker has sent."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
