"""Which prompt is of which video."""

import json
from pathlib import Path

import pytest

from metrics.files.prompts import read_prompts

ROOT = Path("/data/gen")


def prompts(tmp_path, content, *names):
    file = tmp_path / ("prompts.txt" if isinstance(content, str) else "prompts.json")
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    found = read_prompts(file, [ROOT / name for name in names], ROOT)
    return [*found.by_video.values()], found.unused


def test_lines_follow_the_order_of_the_videos(tmp_path):
    assert prompts(tmp_path, "one\ntwo\n", "2.mp4", "10.mp4") == (["one", "two"], 0)
    with pytest.raises(ValueError, match=r"prompts\.txt: 2 prompts for 1 videos"):
        prompts(tmp_path, "one\ntwo\n", "2.mp4")


@pytest.mark.parametrize(
    "name",
    ["a/1.mp4", "a/1", "./a/1.mp4", "a\\1.mp4", "gen/a/1.mp4", "/data/gen/a/1.mp4", "/elsewhere/gen/a/1.mp4"],
)
def test_paths_stems_and_longer_paths(tmp_path, name):
    assert prompts(tmp_path, {name: "one", "b/1": "two"}, "a/1.mp4", "b/1.mp4") == (["one", "two"], 0)


def test_names_and_stems_where_they_are_unique(tmp_path):
    assert prompts(tmp_path, {"1.mp4": "one", "clip.2": "two"}, "a/1.mp4", "b/clip.2") == (["one", "two"], 0)
    assert prompts(tmp_path, {"clip.2": "one"}, "clip.2.mp4") == (["one"], 0)


def test_another_container_of_the_same_name(tmp_path):
    assert prompts(tmp_path, {"1.MP4": "one", "b/2.avi": "two"}, "a/1.mp4", "b/2.webm") == (["one", "two"], 0)
    assert prompts(tmp_path, {"1.mp4": "one", "1.avi": "two"}, "1.avi", "1.mp4") == (["two", "one"], 0)
    with pytest.raises(ValueError, match=r"1\.mov may be any of 2 videos"):
        prompts(tmp_path, {"1.mov": "one"}, "1.avi", "1.mp4")


def test_an_exact_path_comes_before_a_name(tmp_path):
    assert prompts(tmp_path, {"1.mp4": "one", "a/1.mp4": "two"}, "1.mp4", "a/1.mp4") == (["one", "two"], 0)


def test_entries_of_no_video_are_counted(tmp_path):
    assert prompts(tmp_path, {"1.mp4": "one", "2.mp4": "two"}, "1.mp4") == (["one"], 1)


@pytest.mark.parametrize(
    ("content", "names", "message"),
    [
        ({"1.mp4": "one"}, ["a/1.mp4", "b/1.mp4"], r"1\.mp4 may be any of 2 videos, such as .*a/1\.mp4, .*b/1\.mp4"),
        ({"1": "one"}, ["1.avi", "1.mp4"], r"1 may be any of 2 videos"),
        ({"1.mp4": "one", "a/1.mp4": "two"}, ["a/1.mp4"], r"two prompts for .*a/1\.mp4, as 1\.mp4 and as a/1\.mp4"),
        ({"1.mp4": "one"}, ["1.mp4", "2.mp4", "3.mp4"], r"no prompt for 2 videos, the first 2\.mp4"),
        ({"1.mp4": ["one", "two"]}, ["1.mp4"], r"2 captions for 1\.mp4; a video is made for one prompt"),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, content, names, message):
    with pytest.raises(ValueError, match=message):
        prompts(tmp_path, content, *names)
