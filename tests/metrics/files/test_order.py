"""Natural order."""

import random
from pathlib import Path

import pytest

from metrics.files.order import natural_key


@pytest.mark.parametrize(
    "in_order",
    [
        ["0.avi", "2.avi", "10.avi", "23.avi"],
        ["clip_2.mp4", "clip_10.mp4", "clip_10b.mp4", "clip_11.mp4"],
        ["a/2/10.png", "a/10/1.png", "a/10/9.png", "b/1/1.png"],
        ["01.avi", "1.avi", "002.avi", "2.avi"],
        ["1/b.avi", "1.avi", "2/a.avi"],
        ["clip.avi", "clip1.avi", "clip_1.avi"],
        ["a²9.avi", "a²10.avi"],  # ² is no digit of a number
        ["v1.9", "v1.10"],
        ["v_g01_c09.avi", "v_g01_c10.avi", "v_g02_c01.avi"],
        ["Z.avi", "a.avi"],
        ["١.avi", "2.avi"],  # a digit of another script
        ["", "a"],
    ],
)
def test_numbers_count_by_their_value(in_order):
    shuffled = random.Random(0).sample(in_order, len(in_order))
    assert sorted(shuffled, key=natural_key) == in_order
    assert sorted(map(Path, shuffled), key=natural_key) == list(map(Path, in_order))
