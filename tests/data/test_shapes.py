import numpy as np
import pytest

from qvd.data.shapes import ATTRIBUTES, BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Shapes, all_captions


def test_a_clip_is_a_function_of_split_and_index():
    first, second = Shapes().clip(7), Shapes().clip(7)
    assert np.array_equal(first.frames, second.frames)
    assert first.caption == second.caption == Shapes().prompt(7)
    assert first.frames.shape == (8, 3, 32, 32)
    assert first.frames.dtype == np.uint8


def test_splits_share_no_clip():
    clips = {
        split: {Shapes(split=split).clip(i).frames.tobytes() for i in range(40)}
        for split in ("train", "calibration", "evaluation")
    }
    assert all(len(part) == 40 for part in clips.values())
    assert len(set.union(*clips.values())) == 120


def test_prompts_of_the_calibration_split_are_its_own():
    shapes = Shapes()
    assert shapes.prompt(3, "calibration") == Shapes(split="calibration").clip(3).caption


def test_variety():
    assert len(SHAPES) >= 4 and len(COLOURS) >= 6 and len(MOTIONS) >= 8 and len(BACKGROUNDS) >= 3
    attributes = [Shapes().attributes(i) for i in range(400)]
    for name, values in ATTRIBUTES.items():
        assert {getattr(a, name) for a in attributes} == set(values)
    assert (
        len(all_captions()) == len(set(all_captions())) == len(SHAPES) * len(COLOURS) * len(MOTIONS) * len(BACKGROUNDS)
    )


def foreground_track(motion, index_limit=400):
    """Centre of the coloured shape per frame, of the first white clip with this motion."""
    shapes = Shapes(resolution=64)
    index = next(i for i in range(index_limit) if (a := shapes.attributes(i)).motion == motion and a.colour == "white")
    frames = shapes.clip(index).frames.astype(float).min(axis=1)
    masks = frames > 190
    ys, xs = np.mgrid[0:64, 0:64]
    return np.array([[xs[m].mean(), ys[m].mean(), m.sum()] for m in masks])


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [
        ("moving left", 0, -1),
        ("moving right", 0, 1),
        ("moving up", 1, -1),
        ("moving down", 1, 1),
        ("growing", 2, 1),
        ("shrinking", 2, -1),
    ],
)
def test_the_shape_moves_as_the_caption_says(motion, axis, sign):
    track = foreground_track(motion)
    change = track[-1] - track[0]
    assert change[axis] * sign > (10 if axis < 2 else 200)


def test_circling_returns_and_swinging_stays_on_its_line():
    circle, swing = foreground_track("circling"), foreground_track("swinging")
    assert np.ptp(circle[:, 0]) > 12 and np.ptp(circle[:, 1]) > 12
    assert np.ptp(swing[:, 0]) > 12 and np.ptp(swing[:, 1]) < 6


def test_manifest_follows_every_setting():
    manifests = {
        Shapes().manifest(),
        Shapes(split="train").manifest(),
        Shapes(resolution=64).manifest(),
        Shapes(num_frames=4).manifest(),
    }
    assert len(manifests) == 4


def test_unknown_split():
    with pytest.raises(ValueError, match=r"dataset\.split=test: allowed are train, calibration, evaluation"):
        Shapes(split="test")
