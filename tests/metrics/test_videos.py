"""Reading clips: exact frames, protocol choices, and one line for every kind of broken file."""

import av
import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import torch

from metrics.decoding import Source, choose_clips, read_clip
from metrics.errors import VideoError
from metrics.files.tree import find_videos
from metrics.options import ClipChoice, ClipRule, Protocol, Resize
from metrics.videos import fit_videos, read_clips


def write_video(path, count=20, height=32, width=48, fourcc="MJPG"):
    """Frame t is grey level 10·t, which any codec keeps to a level or two."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 10, (width, height))
    for t in range(count):
        writer.write(np.full((height, width, 3), 10 * t, np.uint8))
    writer.release()
    return path


def levels(clip):
    return (clip.mean((1, 2, 3)) / 10).round().astype(int).tolist()


@pytest.mark.parametrize(("name", "fourcc"), [("a.avi", "MJPG"), ("a.avi", "XVID"), ("a.mp4", "mp4v")])
def test_frames_and_stride(tmp_path, name, fourcc):
    path = write_video(tmp_path / name, fourcc=fourcc)
    clip = read_clip(Source(path), ClipRule(num_frames=4, stride=3))
    assert clip.dtype == np.uint8 and clip.shape == (4, 3, 32, 48)
    assert levels(clip) == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.avi", "MJPG"), ("a.avi", "XVID"), ("a.mp4", "mp4v"), ("a.mp4", "libx264")]
)
def test_a_start_is_exact_in_every_container(tmp_path, name, fourcc):
    """Seeking lands on the very frame that decoding from the beginning reaches."""
    path = tmp_path / name
    if fourcc == "libx264":  # with frames that depend on later ones, which OpenCV cannot write
        iio.imwrite(
            path,
            np.full((24, 32, 48, 3), 10, np.uint8) * np.arange(24).astype(np.uint8)[:, None, None, None],
            codec=fourcc,
        )
    else:
        write_video(path, count=24, fourcc=fourcc)
    whole = read_clip(Source(path), ClipRule(24))
    for start in range(21):
        assert np.array_equal(read_clip(Source(path, start), ClipRule(4)), whole[start : start + 4])


def protocol(choice, **fields):
    return Protocol("mine", 8, 8, num_frames=4, resolution=16, choice=ClipChoice(choice), **fields)


def test_first_and_seeded_random_choice(tmp_path):
    paths = [tmp_path / f"{i:02}" for i in range(40)]
    assert choose_clips(paths, protocol("first"), 5) == [Source(path) for path in paths[:5]]
    chosen = choose_clips(paths, protocol("random"), 5)
    assert chosen == sorted(chosen) == choose_clips(paths, protocol("random"), 5)
    assert chosen not in (choose_clips(paths, protocol("first"), 5), choose_clips(paths, protocol("random", seed=1), 5))


def test_windows_do_not_overlap_and_no_bad_video_is_passed_over(tmp_path):
    paths = [
        write_video(tmp_path / "a.avi", count=9),
        tmp_path / "empty.avi",
        write_video(tmp_path / "b.avi", count=20),
    ]
    paths += [write_video(tmp_path / "c.avi", count=8), write_video(tmp_path / "short.avi", count=3)]
    paths[1].touch()
    sources = choose_clips(paths, protocol("windows"), 4)
    assert [(path.name, start) for path, start in sources] == [
        ("a.avi", 0),
        ("a.avi", 4),
        ("empty.avi", 0),
        ("b.avi", 0),
        ("b.avi", 4),
    ]
    with pytest.raises(VideoError, match=r"empty\.avi: empty file"):
        list(read_clips(sources, ClipRule(4), workers=0))


def test_random_start_is_seeded_per_video(tmp_path):
    path = write_video(tmp_path / "a.avi")
    rule = ClipRule(num_frames=4, stride=2, random_start=True, seed=1)
    starts = [levels(read_clip(Source(path), rule, index))[0] for index in range(8)]
    assert starts == [levels(read_clip(Source(path), rule, index))[0] for index in range(8)]
    assert len(set(starts)) > 3 and max(starts) <= 13


def test_centre_crop_and_channel_order(tmp_path):
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = (0, 0, 255)  # red in OpenCV's order, in the middle third
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"{t}.png"), image)
    clip = read_clip(Source(tmp_path), ClipRule(num_frames=2, resolution=5))
    assert clip.shape == (2, 3, 5, 5)
    assert np.unique(clip[:, 0]).tolist() == [255] and np.unique(clip[:, 1:]).tolist() == [0]


@pytest.mark.parametrize("resize", list(Resize))
def test_generated_videos_are_fitted_like_files(tmp_path, resize):
    """Frames on disk through the reader equal the same frames in memory."""
    frames = np.random.default_rng(0).integers(0, 255, (5, 20, 30, 3), np.uint8)
    for t, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{t}.png"), frame[:, :, ::-1])
    rule = ClipRule(4, resolution=12, resize=resize)
    fitted = fit_videos(torch.from_numpy(frames).permute(0, 3, 1, 2)[None], rule)
    assert np.array_equal(fitted[0].numpy(), read_clip(Source(tmp_path), rule))
    with pytest.raises(ValueError, match="videos of 5 frames, the protocol compares 6"):
        fit_videos(torch.zeros(1, 5, 3, 8, 8, dtype=torch.uint8), ClipRule(6))


def test_bilinear_is_torchs_without_antialias():
    from metrics.decoding import fit

    frame = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    x = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear")[0].permute(1, 2, 0)
    assert (torch.from_numpy(fit(frame, 16, Resize.bilinear)) - expected).abs().max() <= 1


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


def cut_fast_start(path):
    """An mp4 whose index lies in front, cut in half: its first clip could still be decoded."""
    frames = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)
    iio.imwrite(path, frames, codec="libx264", output_params=["-movflags", "+faststart"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert cv2.VideoCapture(str(path)).read()[0]


def broken_files(folder):
    """Each kind of unusable file, with what its message says."""
    (folder / "zero.avi").touch()
    (folder / "text.mp4").write_text("not a video\n" * 100)
    cut_noise(folder / "cut.avi", 0.6)
    cut = write_video(folder / "cut.mp4", fourcc="mp4v")
    cut.write_bytes(cut.read_bytes()[:-400])
    cut_fast_start(folder / "faststart.mp4")
    matroska = write_video(folder / "cut.mkv", count=25, fourcc="XVID")
    matroska.write_bytes(matroska.read_bytes()[: matroska.stat().st_size // 2])
    audio_only(folder / "audio.mp4")
    write_video(folder / "short.avi", count=10)
    write_video(folder / "good.avi")
    cv2.imwrite(str(folder / "image.png"), np.zeros((8, 8, 3), np.uint8))
    return {
        "zero.avi": "empty file",
        "text.mp4": "not a video",
        "cut.avi": "truncated: fewer than 90 %",
        "cut.mp4": "truncated",
        "faststart.mp4": "truncated: fewer than 90 %",
        "cut.mkv": "truncated",
        "audio.mp4": "no video stream",
        "short.avi": "10 frames, too few for 16",
        "image.png": "an image, not a video",
    }


def test_each_broken_file_is_named(tmp_path):
    for name, message in broken_files(tmp_path).items():
        with pytest.raises(VideoError, match=f"{name}: .*({message})") as error:
            read_clip(Source(tmp_path / name), ClipRule())
        assert "\n" not in str(error.value)


def test_a_clip_that_reaches_a_missing_end_is_an_error(tmp_path):
    cut_noise(tmp_path / "a.avi", 0.955)
    assert read_clip(Source(tmp_path / "a.avi"), ClipRule(16)).shape == (16, 3, 64, 64)
    with pytest.raises(VideoError, match=r"2\d frames of the 25 that its header promises, too few for 25"):
        read_clip(Source(tmp_path / "a.avi"), ClipRule(25))


def test_broken_frame_of_a_folder_is_named(tmp_path):
    for t in range(3):
        (tmp_path / f"{t}.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"0\.png: cannot be decoded"):
        read_clip(Source(tmp_path), ClipRule(num_frames=2))


def test_frames_of_different_sizes_need_a_resolution(tmp_path):
    paths = [Source(write_video(tmp_path / "a.avi")), Source(write_video(tmp_path / "b.avi", height=48))]
    with pytest.raises(ValueError, match=r"b\.avi: frames of another size than .*a\.avi"):
        list(read_clips(paths, ClipRule(), workers=0))
    ((_, clips),) = read_clips(paths, ClipRule(resolution=16), workers=0)
    assert clips.shape == (2, 16, 3, 16, 16)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_skip_and_count_or_raise(tmp_path, workers):
    broken = broken_files(tmp_path)
    paths, skipped = [Source(path) for path in find_videos(tmp_path).paths], []
    batches = list(read_clips(paths, ClipRule(), batch_size=3, workers=workers, skipped=skipped))
    assert [p.name for names, _ in batches for p in names] == ["good.avi"]
    assert torch.cat([clips for _, clips in batches]).shape == (1, 16, 3, 32, 48)
    assert len(skipped) == len(broken)
    with pytest.raises(VideoError) as error:
        list(read_clips(paths, ClipRule(), batch_size=3, workers=workers))
    assert len(str(error.value).splitlines()) == len(broken)
    with pytest.raises(VideoError, match=r"zero\.avi: empty file"):
        list(read_clips([Source(tmp_path / "zero.avi")], ClipRule(), workers=0, skipped=[]))
