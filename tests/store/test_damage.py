"""Whatever was done to a store: what is read is what was computed, or one error says why not."""

import pytest

from tests.torture.damage import DAMAGE, PASSING, judge, judge_passing

ALWAYS = {  # one of each kind in the default tier
    *("tensors: a bit of the body", "tensors: missing", "tensors: a pipe", "tensors: not the format, checksum edited"),
    *("sidecar: a list", "sidecar: seconds edited", "sidecar: missing", "pair: another key's", "the lock: a folder"),
    *("another user's files", "no file descriptors"),
}


def tiered(names):
    return [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.full) for name in names]


def test_the_default_tier_names_kinds_that_there_are():
    assert {*DAMAGE, *PASSING} > ALWAYS


@pytest.mark.parametrize("name", tiered(DAMAGE))
def test_damage_is_found_and_what_it_hit_is_computed_anew(name):
    verdict = judge(name)
    assert verdict.right, verdict.outcome


@pytest.mark.parametrize("name", tiered(PASSING))
def test_what_cannot_be_read_just_now_is_not_called_damaged(name):
    verdict = judge_passing(name)
    assert verdict.right, verdict.outcome
