from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from experiments.report.media import (
    animation_frames,
    apng_bytes,
    frames_image,
    grid_image,
    write_gif,
    write_grid,
    write_mp4,
)
from experiments.result import drawable
from tests.experiments.arms import changed


def test_grid_shows_fp_above_quantized_even_if_given_last(arms, tmp_path):
    write_grid(arms, tmp_path / "grid.png", count=2)
    assert np.array_equal(iio.imread(tmp_path / "grid.png"), np.asarray(grid_image(arms[::-1], count=2)))


def test_pixels_are_shown_as_they_are(arms):
    colours = {tuple(pixel) for pixel in np.asarray(grid_image(arms, count=1)).reshape(-1, 3)}
    drawn = arms[1].videos[0, 0].permute(1, 2, 0).reshape(-1, 3).numpy()
    assert {tuple(pixel) for pixel in drawn} <= colours


def test_a_row_per_prompt_and_a_column_per_frame():
    videos = torch.zeros(2, 8, 3, 32, 32, dtype=torch.uint8)
    videos[:, :, 0], videos[:, :, 2] = torch.arange(16, dtype=torch.uint8).view(2, 8, 1, 1), 255
    image = np.asarray(frames_image(videos, ["a red circle moving left on a plain background"] * 2))
    places = np.array([np.argwhere((image == (value, 0, 255)).all(-1)).mean(0) for value in range(16)]).reshape(2, 8, 2)
    rows, columns = places[..., 0], places[..., 1]
    assert (rows == rows[:, :1]).all() and rows[1, 0] - rows[0, 0] > 96, "a row is as high as a frame and more"
    assert (columns == columns[:1]).all() and (np.diff(columns[0]) > 96).all()


def test_count_is_limited_by_the_videos(arms):
    assert animation_frames(arms, count=99)[0].size == animation_frames(arms, count=3)[0].size


def test_gif_loops_through_every_frame(arms, tmp_path):
    write_gif(arms, tmp_path / "samples.gif", count=2)
    with Image.open(tmp_path / "samples.gif") as gif:
        assert gif.n_frames == arms[0].videos.shape[1]
        assert gif.info["loop"] == 0


def test_apng_is_lossless(arms):
    shown = iio.imread(apng_bytes(arms, count=1), index=None, plugin="pillow")
    expected = np.stack([np.asarray(frame) for frame in animation_frames(arms, count=1)])
    assert np.array_equal(shown[..., :3], expected)


def test_mp4_plays_the_same_frames(arms, tmp_path):
    write_mp4(arms, tmp_path / "samples.mp4", count=2)
    video = iio.imread(tmp_path / "samples.mp4", plugin="FFMPEG")
    expected = np.asarray(animation_frames(arms, count=2)[0])
    assert len(video) % arms[0].videos.shape[1] == 0
    height, width, _ = expected.shape
    assert np.abs(video[0, :height, :width].astype(float) - expected).mean() < 4


@pytest.mark.parametrize("side", [8, 32, 96, 300])
def test_any_resolution_becomes_a_legible_size(arms, side):
    video = replace(arms[0], videos=torch.zeros(1, 2, 3, side, side, dtype=torch.uint8), prompts=["black"])
    assert 96 <= animation_frames([video])[0].width <= 260


def test_of_many_arms_those_at_the_last_bits_are_shown(arms):
    fp, quantized = arms
    many = [replace(quantized, bits=bits, variant=f"v{i}") for i in range(5) for bits in ("w8a8", "w4a8")]
    shown = drawable([fp, *many], limit=8)
    assert [arm.name for arm in shown] == ["fp", *(f"v{i} w4a8" for i in range(5))]
    assert drawable([fp, *many[:7]], limit=8) == [fp, *many[:7]]
    assert grid_image([fp, *many], count=1).height < grid_image([fp, *many[:7]], count=1).height


def test_an_arm_on_more_videos_is_not_shown_twice(arms):
    larger = [changed(arm, n_videos=512) for arm in arms]
    assert drawable([*arms, *larger], limit=8) == arms
