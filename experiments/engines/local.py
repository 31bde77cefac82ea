"""Arms side by side: worker processes fill the store, from which the run then reads everything.

A tiny model leaves a second core nearly idle, so one process a core finishes an experiment in little more than half the
time. Two workers that need the same artifact meet at the store's file lock: one computes it, the other waits.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from rich.progress import TaskID

from experiments.arms import ArmRunner
from experiments.config.run_config import Arm, RunConfig
from experiments.engines.base import Engine
from experiments.logs import forward, receive
from experiments.progress import Reporter, bars
from metrics.errors import terminate
from qvd.store.artifacts import Store

T = TypeVar("T")
_POLL_SECONDS = 0.5
log = logging.getLogger(__name__)
# glibc gives a large block back to the kernel as soon as it is freed, and each layer's output faults it in again: that
# is a tenth of a tiny model's time.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


@dataclass(frozen=True)
class Message:
    """What a worker tells the run.

    Attributes:
        worker: its number.
        text: what it is at; with `failure`, the error.
        done, total: how far that is; None: of unknown length.
        finished: whether a task ended with this.
        failure: `input` for an error that one line explains, `bug` for a traceback.
    """

    worker: int
    text: str = ""
    done: int | None = None
    total: int | None = None
    finished: bool = False
    failure: str = ""


class RemoteReporter(Reporter):
    """Tells the run instead of drawing."""

    def __init__(self, worker: int, messages: Any) -> None:
        super().__init__(quiet=True)
        self.worker, self.messages = worker, messages

    def track(self, items: Collection[T], description: str) -> Iterator[T]:
        text = f"{self._prefix()}{description}"
        log.info("%s (%d)", text, len(items))
        for done, item in enumerate(items):
            self.messages.put(Message(self.worker, text, done, len(items)))
            yield item

    def note(self, text: str) -> AbstractContextManager:
        text = f"{self._prefix()}{text}"
        log.info("%s", text)
        self.messages.put(Message(self.worker, text))
        return nullcontext()


class LocalEngine(Engine):
    """As many processes as the run's `workers`; a single one is this process itself, which fills as it goes.

    A single arm that is left goes to a worker too: sums of features round by the number of threads, and a resumed run
    must end in the numbers of one that was let alone.
    """

    def fill(self, config: RunConfig, arms: Sequence[Arm], overrides: list[str], reporter: Reporter) -> None:
        if config.workers > 1 and arms:
            fill_store(config, arms, overrides, reporter)


def fill_store(config: RunConfig, arms: Sequence[Arm], overrides: list[str], reporter: Reporter) -> None:
    """Compute `arms` in `config.workers` processes.

    Raises:
        ValueError: bad input that only showed in a worker.
        ChildProcessError: a worker was killed.
        RuntimeError: anything else that went wrong in a worker, with its traceback.
    """
    os.environ |= _ALLOCATOR | os.environ
    context = multiprocessing.get_context("spawn")
    waiting, messages = context.Queue(), context.Queue()
    for arm in in_order(arms):
        waiting.put(arm)
    processes: list[BaseProcess] = []
    for number in range(min(config.workers, len(arms))):
        waiting.put(None)
        arguments = (config, overrides, number, config.workers, waiting, messages)
        processes.append(context.Process(target=_work, args=arguments, name=f"worker-{number}"))
    try:
        with _without_interrupts():
            for process in processes:
                process.start()
        _follow(processes, messages, len(arms), reporter)
    except BaseException:
        for process in processes:
            if process.pid is not None:
                process.terminate()
        raise
    finally:
        for process in processes:
            if process.pid is not None:
                process.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C waits, and processes started meanwhile never get it: the run alone decides how its workers end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def in_order(arms: Sequence[Arm]) -> list[Arm]:
    """Those on most videos first, since they take longest; then so that workers do not wait for the same artifact: one
    arm of each calibration plan, a second of each, and so on."""
    plans: Counter[Any] = Counter()
    keys = []
    for number, arm in enumerate(arms):
        plan = None if arm.bits.is_float else arm.options.calibration
        keys.append((-arm.n_videos, plans[plan], number))
        plans[plan] += 1
    return [arms[number] for *_, number in sorted(keys)]


def _follow(processes: Sequence[BaseProcess], messages: Any, total: int, reporter: Reporter) -> None:
    """Show the workers' progress until every task has finished."""
    finished, display = 0, _Display(len(processes), total, reporter)
    with display.progress:
        while finished < total:
            try:
                message = messages.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                _check_alive(processes)
                continue
            if isinstance(message, logging.LogRecord):
                receive(message)
                continue
            if message.failure:
                raise (ValueError if message.failure == "input" else RuntimeError)(message.text)
            finished += message.finished
            display.show(message)


def _check_alive(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.exitcode:
            raise ChildProcessError(
                f"workers: process {process.pid} ended with exit code {process.exitcode} (out of memory?); "
                "the same command goes on, workers=1 needs least memory"
            )


class _Display:
    """A bar for all tasks and one for each worker; where stderr is no terminal, a line per stage."""

    def __init__(self, workers: int, total: int, reporter: Reporter) -> None:
        self.reporter, self.lines = reporter, dict.fromkeys(range(workers), "")
        self.progress = bars(reporter.console)
        self.progress.disable = not reporter.console.is_terminal
        self.overall = self.progress.add_task("arms", total=total)
        self.rows: list[TaskID] = [self.progress.add_task("starting", total=None) for _ in range(workers)]

    def show(self, message: Message) -> None:
        self.progress.update(self.overall, advance=int(message.finished))
        row = self.rows[message.worker]
        if message.text != self.lines[message.worker]:
            self.lines[message.worker] = message.text
            self.progress.reset(row, total=message.total, description=message.text or "idle")
            if self.progress.disable and message.text:
                self.reporter.show(message.text + (f" ({message.total})" if message.total else ""))
        self.progress.update(row, completed=message.done or 0)


def _work(config: RunConfig, overrides: list[str], worker: int, workers: int, waiting: Any, messages: Any) -> None:
    """A worker's life: tasks until there are none."""
    try:
        signal.signal(signal.SIGTERM, terminate)  # ended by the run: clean up as on Ctrl-C
        _end_with_parent()
        forward(messages)
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
        runner = ArmRunner(config, Store(config.store), RemoteReporter(worker, messages), overrides)
        for arm in iter(waiting.get, None):
            runner.run(arm)
            messages.put(Message(worker, finished=True))
    except KeyboardInterrupt:  # the run, interrupted itself, says so
        messages.cancel_join_thread()  # nobody reads them any more
    except (ValueError, OSError) as error:
        messages.put(Message(worker, str(error), failure="input"))
    except Exception:
        messages.put(Message(worker, traceback.format_exc(), failure="bug"))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends anyway


def _end_with_parent() -> None:
    """A killed run must not leave workers behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker is started by a run"

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
