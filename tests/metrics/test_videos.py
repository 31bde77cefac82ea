"""Reading clips: exact frames, protocol choices, and one line for every kind of broken file."""

import av
import cv2
import numpy as np
import pytest
import torch

from metrics.videos import ClipRule, VideoError, find_videos, read_clip, read_clips


def write_video(path, count=20, height=32, width=48, fourcc="MJPG"):
    """Frame t is grey level 10·t, which any codec keeps to a level or two."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 10, (width, height))
    for t in range(count):
        writer.write(np.full((height, width, 3), 10 * t, np.uint8))
    writer.release()
    return path


def levels(clip):
    return (clip.float().mean((1, 2, 3)) / 10).round().int().tolist()


@pytest.mark.parametrize(("name", "fourcc"), [("a.avi", "MJPG"), ("a.avi", "XVID"), ("a.mp4", "mp4v")])
def test_frames_and_stride(tmp_path, name, fourcc):
    path = write_video(tmp_path / name, fourcc=fourcc)
    clip = read_clip(path, ClipRule(num_frames=4, stride=3))
    assert clip.dtype == torch.uint8 and clip.shape == (4, 3, 32, 48)
    assert levels(clip) == [0, 3, 6, 9]


def test_random_start_is_seeded_per_video(tmp_path):
    path = write_video(tmp_path / "a.avi")
    rule = ClipRule(num_frames=4, stride=2, random_start=True, seed=1)
    starts = [levels(read_clip(path, rule, index))[0] for index in range(8)]
    assert starts == [levels(read_clip(path, rule, index))[0] for index in range(8)]
    assert len(set(starts)) > 3 and max(starts) <= 13


def test_centre_crop_and_channel_order(tmp_path):
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = (0, 0, 255)  # red in OpenCV's order, in the middle third
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"{t}.png"), image)
    clip = read_clip(tmp_path, ClipRule(num_frames=2, resolution=5))
    assert clip.shape == (2, 3, 5, 5)
    assert clip[:, 0].unique().tolist() == [255] and clip[:, 1:].unique().tolist() == [0]


def test_find_videos_takes_files_and_folders_of_frames(tmp_path):
    for name in ("b/one.avi", "c/00.png", "c/01.png", "notes.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [str(p.relative_to(tmp_path)) for p in find_videos(tmp_path)] == ["b/one.avi", "c", "notes.txt"]
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "no files in it"), ("nowhere", "no such folder")):
        with pytest.raises(ValueError, match=message):
            find_videos(tmp_path / folder)


def audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])


def cut_noise(path, share):
    """25 frames of noise, of whose bytes only a share is left."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"XVID"), 10, (64, 64))
    for frame in np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), np.uint8):
        writer.write(frame)
    writer.release()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def broken_files(folder):
    """Each kind of unusable file, with what its message says."""
    (folder / "zero.avi").touch()
    (folder / "text.mp4").write_text("not a video\n" * 100)
    cut_noise(folder / "cut.avi", 0.6)
    cut = write_video(folder / "cut.mp4", fourcc="mp4v")
    cut.write_bytes(cut.read_bytes()[:-400])
    audio_only(folder / "audio.mp4")
    write_video(folder / "short.avi", count=10)
    write_video(folder / "good.avi")
    cv2.imwrite(str(folder / "image.png"), np.zeros((8, 8, 3), np.uint8))
    return {
        "zero.avi": "empty file",
        "text.mp4": "not a video",
        "cut.avi": "truncated: fewer than 90 %",
        "cut.mp4": "truncated",
        "audio.mp4": "no video stream",
        "short.avi": "10 frames, too few for 16",
        "image.png": "an image, not a video",
    }


def test_each_broken_file_is_named(tmp_path):
    for name, message in broken_files(tmp_path).items():
        with pytest.raises(VideoError, match=f"{name}: .*({message})") as error:
            read_clip(tmp_path / name, ClipRule())
        assert "\n" not in str(error.value)


def test_a_clip_that_reaches_a_missing_end_is_an_error(tmp_path):
    cut_noise(tmp_path / "a.avi", 0.955)
    assert read_clip(tmp_path / "a.avi", ClipRule(16)).shape == (16, 3, 64, 64)
    with pytest.raises(VideoError, match=r"truncated: 2\d of 25 frames"):
        read_clip(tmp_path / "a.avi", ClipRule(25))


def test_broken_frame_of_a_folder_is_named(tmp_path):
    for t in range(3):
        (tmp_path / f"{t}.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"0\.png: cannot be decoded"):
        read_clip(tmp_path, ClipRule(num_frames=2))


def test_frames_of_different_sizes_need_a_resolution(tmp_path):
    paths = [write_video(tmp_path / "a.avi"), write_video(tmp_path / "b.avi", height=48)]
    with pytest.raises(ValueError, match=r"b\.avi: frames of another size than .*a\.avi"):
        list(read_clips(paths, ClipRule(), workers=0))
    ((_, clips),) = read_clips(paths, ClipRule(resolution=16), workers=0)
    assert clips.shape == (2, 16, 3, 16, 16)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_skip_and_count_or_raise(tmp_path, workers):
    broken = broken_files(tmp_path)
    paths, skipped = find_videos(tmp_path), []
    batches = list(read_clips(paths, ClipRule(), batch_size=3, workers=workers, skipped=skipped))
    assert [p.name for names, _ in batches for p in names] == ["good.avi"]
    assert torch.cat([clips for _, clips in batches]).shape == (1, 16, 3, 32, 48)
    assert len(skipped) == len(broken)
    with pytest.raises(VideoError) as error:
        list(read_clips(paths, ClipRule(), batch_size=3, workers=workers))
    assert len(str(error.value).splitlines()) == len(broken)
    with pytest.raises(VideoError, match=r"zero\.avi: empty file"):
        list(read_clips([tmp_path / "zero.avi"], ClipRule(), workers=0, skipped=[]))
