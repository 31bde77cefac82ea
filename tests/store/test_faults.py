"""Errors and deaths at calls to the system; all of them: `python -m tests.torture store`."""

import errno
import os

import pytest

from tests.torture.faults import DOORS, SITUATIONS, Calls, count_calls, judge_crowd, judge_death, judge_error, watching

WRITES = ("write", "half a write", "fsync", "replace", "unlink", "mkdir")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("situation", [pytest.param("empty"), pytest.param("damaged", marks=pytest.mark.full), "half"])
def test_killed_at_any_write_the_next_process_is_handed_what_was_computed(situation, door):
    made = count_calls(situation, door)
    writes = [
        number for number, name in enumerate(made) if name not in ("stat", "read", "readinto", "close", "scandir")
    ]
    assert {"replace", "fsync", "write", "half a write", "open"} <= {made[number] for number in writes}
    wrong = [verdict for at in writes if not (verdict := judge_death(situation, door, at)).right]
    assert not wrong


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("situation", [pytest.param(name, marks=[pytest.mark.full]) for name in SITUATIONS])
def test_an_error_of_any_call_is_overcome_or_one_line(situation, number):
    calls = range(len(count_calls(situation, "fetch")))
    verdicts = [judge_error(situation, "fetch", at, number, lasting) for at in calls for lasting in (False, True)]
    assert not [verdict for verdict in verdicts if not verdict.right]


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_whole_artifact_survives_an_error_of_any_call(number):
    calls = range(len(count_calls("whole", "fetch_file")))
    verdicts = [judge_error("whole", "fetch_file", at, number, lasting) for at in calls for lasting in (False, True)]
    assert not [verdict for verdict in verdicts if not verdict.right]
    assert all(verdict.outcome == "fine" for verdict in verdicts[::2]), "an error that passes is overcome"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_of_eight_processes_one_computes_and_all_are_handed_it(situation):
    verdict = judge_crowd(situation)
    assert verdict.right, verdict.outcome


def test_the_shim_sees_calls_and_can_stop_each(tmp_path):
    def work():
        with open(tmp_path / "new", "wb") as handle:
            handle.write(b"abc")
            os.fsync(handle.fileno())
        os.replace(tmp_path / "new", tmp_path / "old")

    made = Calls(tmp_path)
    with watching(made):
        work()
    assert made.made == ["open", "write", "half a write", "fsync", "replace"]
    assert (tmp_path / "old").read_bytes() == b"abc"
    for at in range(5):

        def fail(what):
            raise OSError(errno.EIO, what)

        with watching(Calls(tmp_path, at, fail)), pytest.raises(OSError, match=made.made[at]):
            work()
