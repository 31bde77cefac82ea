import imageio.v3 as iio
import numpy as np
import pytest

from qvd.data.folder import PromptSource, VideoFolder


def write_video(path, frames=20, height=48, width=64, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    video = np.full((frames, height, width, 3), shade, np.uint8)
    video[:, :, :, 0] = (np.arange(frames) * 10)[:, None, None]
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    iio.imwrite(path, video, fps=10, codec=codec)


@pytest.fixture
def ucf(tmp_path):
    for number, name in enumerate(["ApplyLipstick/v_01.avi", "ApplyLipstick/v_02.avi", "YoYo/v_01.mp4"]):
        write_video(tmp_path / name, shade=40 * number)
    return tmp_path


def test_every_window_of_every_video_in_name_order(ucf):
    folder = VideoFolder(root=str(ucf))
    assert folder.available_clips() == 6
    clip = folder.clip(1)
    assert clip.frames.shape == (8, 3, 32, 32) and clip.frames.dtype == np.uint8
    assert clip.source.endswith("v_01.avi@8")
    # red counts the frames: the second window starts at frame 8
    assert abs(int(clip.frames[0, 0].mean()) - 80) < 12
    assert abs(int(clip.frames[7, 0].mean()) - 150) < 12


def test_stride_and_clips_per_video(ucf):
    folder = VideoFolder(root=str(ucf), stride=2, clips_per_video=1)
    assert folder.available_clips() == 3
    red = folder.clip(0).frames[:, 0].mean(axis=(1, 2))
    assert abs(red[7] - red[0] - 140) < 15


def test_class_names_as_prompts(ucf):
    folder = VideoFolder(root=str(ucf), prompts=PromptSource.classes)
    assert folder.prompt(0) == folder.clip(0).caption == "apply lipstick"
    assert VideoFolder(root=str(ucf)).prompt(0).startswith("a ")


def test_manifest_changes_with_one_video(ucf):
    before = VideoFolder(root=str(ucf)).manifest()
    assert VideoFolder(root=str(ucf)).manifest() == before
    write_video(ucf / "YoYo/v_01.mp4", shade=200)
    assert VideoFolder(root=str(ucf)).manifest() != before


def test_errors_name_the_file(tmp_path, ucf):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        VideoFolder(root=str(tmp_path / "nowhere"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no video in it"):
        VideoFolder(root=str(empty)).available_clips()
    (ucf / "YoYo" / "broken.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"broken\.mp4: not a readable video"):
        VideoFolder(root=str(ucf)).available_clips()
    with pytest.raises(ValueError, match="no video is as long as one clip, 64 frames"):
        (ucf / "YoYo" / "broken.mp4").unlink()
        VideoFolder(root=str(ucf), num_frames=64).available_clips()
