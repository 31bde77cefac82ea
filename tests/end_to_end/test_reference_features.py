"""Features of reference clips, kept from one run to the next."""

import shutil
from dataclasses import replace

import pytest

from tests.end_to_end.names import Evaluator, Reporter, Store, VideoError, compose_run_config


def test_a_run_that_allows_bad_videos_does_not_hide_them_from_one_that_does_not(footage, tmp_path):
    """Both have the same features; the second must not find them in the store and say nothing."""
    (tmp_path / "videos").mkdir()
    shutil.copy(footage / "pan.mp4", tmp_path / "videos")
    (tmp_path / "videos" / "empty.mp4").touch()
    words = ["dataset=folder", f"dataset.root={tmp_path}/videos", "protocol.min_videos=8", "n_videos=8"]
    config = compose_run_config([*words, "dataset.skip_bad=true"])
    strict = replace(config, dataset=replace(config.dataset, skip_bad=False))
    allowing, refusing = (Evaluator(c, Store(tmp_path / "store"), Reporter(quiet=True)) for c in (config, strict))
    assert allowing.reference_features().metadata["clips"] == 8
    with pytest.raises(VideoError, match=r"empty\.mp4: empty file"):
        refusing.reference_features()
