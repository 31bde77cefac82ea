"""What goes wrong in a worker reaches the run. That workers compute what one process does: tests/integration."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from queue import Queue

import pytest

from experiments.attributes import compose_run_config
from experiments.engines import local as workers
from experiments.engines.local import Message, RemoteReporter, fill_store, in_order
from experiments.progress import Reporter


@pytest.fixture
def config(tmp_path):
    return compose_run_config([f"store={tmp_path}", "workers=2"])


def test_long_arms_start_first_and_calibration_sets_are_made_side_by_side():
    config = compose_run_config(["experiment=baselines"])
    arms = {arm.name: arm for arm in config.arms}
    fp, long_fp = config.floating_point(128), config.floating_point(512)
    longer = replace(arms["qvd w6a6"], n_videos=512)
    naive, ptq4dm, qvd = (arms[f"{name} w8a8"] for name in ("naive", "ptq4dm", "qvd"))
    second = arms["ptq4dm w6a6"]
    expected = [long_fp, longer, fp, naive, ptq4dm, qvd, second]
    assert in_order([fp, naive, ptq4dm, second, qvd, long_fp, longer]) == expected


@pytest.mark.full
def test_bad_input_that_shows_in_a_worker_is_bad_input(config):
    choice = config.model_choice
    nowhere = replace(choice, options=replace(choice.options, path="/nowhere"))
    gone = replace(config, model_choice=nowhere)
    with pytest.raises(ValueError, match=r"model.path=/nowhere: no diffusers pipeline there"):
        fill_store(gone, [gone.floating_point(65)], [], Reporter(quiet=True))
    assert not multiprocessing.active_children()


@pytest.mark.full
def test_a_bug_in_a_worker_comes_with_its_traceback(config):
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*AttributeError"):
        fill_store(replace(config, model_choice=None), [config.floating_point(65)], [], Reporter(quiet=True))


def test_a_killed_worker_is_noticed(config, monkeypatch):
    follow = workers._follow

    def kill_then_follow(processes, *arguments):
        os.kill(processes[0].pid, signal.SIGKILL)
        follow(processes, *arguments)

    monkeypatch.setattr(workers, "_follow", kill_then_follow)
    with pytest.raises(ChildProcessError, match=r"exit code -9 .*workers=1 needs least memory"):
        fill_store(config, [config.floating_point(65)], [], Reporter(quiet=True))


@pytest.mark.full
def test_a_worker_ends_with_its_parent(tmp_path):
    """SIGKILL leaves a parent no time to tell its workers."""
    context = multiprocessing.get_context("spawn")
    pids = context.Queue()
    parent = context.Process(target=_start_a_child, args=(pids,))
    parent.start()
    child = pids.get(timeout=60)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 10
    while _is_running(child):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.05)


def _start_a_child(pids):
    child = multiprocessing.get_context("spawn").Process(target=_sleep_as_a_worker, args=(pids,))
    child.start()
    child.join()


def _sleep_as_a_worker(pids):
    workers._end_with_parent()
    pids.put(os.getpid())
    time.sleep(600)


def _is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_worker_tells_how_far_it_is():
    messages = Queue()
    reporter = RemoteReporter(1, messages)
    with reporter.on_arm("naive w8a8"):
        assert list(reporter.track("ab", "sampling")) == ["a", "b"]
        with reporter.note("loading"):
            pass
    assert [messages.get_nowait() for _ in range(3)] == [
        Message(1, "naive w8a8: sampling", 0, 2),
        Message(1, "naive w8a8: sampling", 1, 2),
        Message(1, "naive w8a8: loading"),
    ]
