"""Whatever an option is given, the answer is one line that names it, or a config that is valid as a whole.

A seeded sample of `python -m tests.bad_values`, which tries every option with every value.
"""

import random
import time

import pytest

from tests.bad_values.values import cases, outcome

SECONDS = 50


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.full)])
def test_bad_values_are_one_line_or_valid(count, dataset_words, monkeypatch, tmp_path):
    every = cases(dataset_words)
    assert len(every) > 4000, "every option of conf/ with every value"
    started, tried, wrong = time.monotonic(), 0, []
    for case in random.Random(count).sample(every, count):
        what, said = outcome(case)
        tried += 1
        if what == "wrong":
            wrong.append(f"{case.base} {case.key} = {case.value}: {said[:300]}")
        if time.monotonic() - started > SECONDS:
            break
    assert not wrong, "\n".join(wrong)
    assert tried >= 40
