"""Which clips and prompts a protocol takes from a dataset."""

import shutil

import numpy as np
import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.stages.reference import reference_clips, reference_key
from metrics.errors import VideoError
from metrics.extractors.shapes_classifier import ShapesExtractor
from qvd.data.shapes import Shapes
from qvd.data.ucf101_sentences import SENTENCES


def reference(*words):
    return compose_run_config([*words]).reference


def test_drawn_clips_are_the_datasets(footage):
    drawn = reference("n_videos=70")
    batches = list(reference_clips(drawn, 32, []))
    assert [len(batch) for batch in batches] == [32, 32, 6]
    assert np.array_equal(batches[2][5].numpy(), Shapes().clip(69).frames)
    assert drawn.prompts("evaluation", range(69, 70)) == [Shapes().clip(69).caption]


def test_clips_of_files_come_in_order_at_the_protocols_size(dataset_words):
    files = reference("dataset=ucf101", *dataset_words["ucf101"], "n_videos=80")
    clips = torch.cat(list(reference_clips(files, 32, [])))
    assert clips.shape == (80, 8, 3, 32, 32) and clips.dtype == torch.uint8
    # The first video moves by one pixel per frame, so its second window is the first one moved by eight.
    assert files.sources[1].start == 8 and files.count == 80


def test_the_reference_may_have_another_number(dataset_words):
    ucf = ["dataset=ucf101", *dataset_words["ucf101"], "n_videos=70"]
    fewer, more = (reference(*ucf, f"protocol.n_reference={number}") for number in (66, 80))
    assert (fewer.count, more.count) == (66, 80) and more.sources[:66] == fewer.sources
    drawn = reference("n_videos=70", "protocol.n_reference=66")
    assert sum(map(len, reference_clips(drawn, 32, []))) == drawn.count == 66
    with pytest.raises(ValueError, match=r"protocol.n_reference=64: must be at least min_videos=65, or null"):
        reference("protocol.n_reference=64")


def test_what_lies_in_the_folder_is_said(dataset_words, tmp_path):
    """Order and what is left out, as metrics.json and the line on stderr say it."""
    root = tmp_path / "root"
    shutil.copytree(dataset_words["ucf101"][0].removeprefix("dataset.root="), root)
    (root / ".DS_Store").touch()
    (root / "YoYo" / "notes.txt").touch()
    files = reference("dataset=ucf101", f"dataset.root={root}", "n_videos=80")
    ends = [path for path, _ in (files.sources[0], files.sources[-1])]
    assert [path.name for path in ends] == ["v_ApplyLipstick_g01_c01.mp4", "v_YoYo_g01_c01.mp4"]
    said = files.describe()
    assert said["reference_order"]["first"] == {
        "video": "ApplyLipstick/v_ApplyLipstick_g01_c01.mp4",
        "caption": SENTENCES["ApplyLipstick"],
    }
    assert said["reference_order"]["last"]["caption"] == SENTENCES["YoYo"]
    assert files.left_out_words == ", leaving out 1 hidden, 1 no video by its name"
    assert reference().describe() == {} and reference().left_out_words == ""


def test_frames_are_counted_once_for_all_runs_of_a_store(dataset_words, tmp_path, monkeypatch):
    words = ["dataset=ucf101", *dataset_words["ucf101"], "n_videos=80", f"store={tmp_path}/store"]
    sources = reference(*words).sources
    monkeypatch.setattr("metrics.counts.open_reader", lambda path: pytest.fail(f"{path} is counted again"))
    assert reference(*words).sources == sources


def test_a_dangling_link_is_left_out_with_skip_bad(tmp_path, footage):
    """It escaped as the manifest of all files was made."""
    root = tmp_path / "videos"
    shutil.copytree(footage, root)
    (root / "a.mp4").symlink_to(tmp_path / "nowhere.mp4")
    words = ["dataset=folder", f"dataset.root={root}"]
    line = f"{root}/a.mp4: cannot be read: a link to nowhere"
    strict, lenient = reference(*words), reference(*words, "dataset.skip_bad=true")
    assert reference_key(strict, ShapesExtractor()) == reference_key(lenient, ShapesExtractor())
    with pytest.raises(VideoError, match=line):
        list(reference_clips(strict, 32, []))
    skipped = []
    assert sum(map(len, reference_clips(lenient, 32, skipped))) == 80 and skipped == [line]


def test_prompts_follow_the_protocol(dataset_words):
    ucf = ["dataset=ucf101", *dataset_words["ucf101"]]
    assert reference(*ucf).prompts("evaluation", range(1)) == [Shapes().prompt(0)]
    in_turn = reference(*ucf, "protocol.prompts=classes").prompts("evaluation", range(3))
    assert in_turn == [SENTENCES["ApplyLipstick"], SENTENCES["YoYo"], SENTENCES["ApplyLipstick"]]
    captions = reference(*ucf, "protocol.prompts=captions")
    assert captions.prompts("evaluation", range(39, 41)) == [SENTENCES["ApplyLipstick"], SENTENCES["YoYo"]]
    assert captions.prompts_match_clips and not reference(*ucf).prompts_match_clips


def test_the_key_follows_pixels_and_protocol(dataset_words, tmp_path):
    extractor = ShapesExtractor()
    words = ["dataset=ucf101", *dataset_words["ucf101"]]
    keys = [
        str(reference_key(reference(*words, *extra), extractor))
        for extra in (
            [],
            ["protocol.resize=bilinear"],
            ["protocol.stride=2", "n_videos=65", "protocol.num_frames=4"],
            ["n_videos=70"],
        )
    ]
    assert len(set(keys)) == 4 and keys[0] == str(reference_key(reference(*words), extractor))


def test_unusable_files_stop_or_are_counted(tmp_path, footage):
    root = tmp_path / "videos"
    root.mkdir()
    for name in ("pan.mp4", "fast.mp4"):
        (root / name).symlink_to(footage / name)
    (root / "a.mp4").touch()
    words = ["dataset=folder", f"dataset.root={root}"]
    with pytest.raises(VideoError, match=r"a\.mp4: empty file"):
        list(reference_clips(reference(*words), 32, []))
    skipped = []
    clips = list(reference_clips(reference(*words, "dataset.skip_bad=true"), 32, skipped))
    assert sum(map(len, clips)) == 80 and len(skipped) == 1
