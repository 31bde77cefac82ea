"""Frames by their number in whatever container, as many as decode whatever the header says."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from metrics.counts import FrameCounts
from metrics.decoding import Source, choose_clips, read_clip
from metrics.errors import VideoError
from metrics.options import ClipChoice, ClipRule, Protocol
from metrics.readers import FFmpegReader, OpenReaders, open_reader
from metrics.videos import read_clips
from tests.metrics.footage import cut, encode, numbers

X264 = ("-c:v", "libx264", "-g", "10", "-pix_fmt", "yuv420p")
MPEG2 = ("-c:v", "mpeg2video", "-g", "10", "-bf", "2", "-b:v", "2M")
CODECS = {
    "a.mpg": MPEG2,
    "a.ts": X264,
    "a.flv": X264,
    "b.flv": ("-c:v", "flv"),
    "a.mp4": X264,
    "a.avi": ("-c:v", "mpeg4", "-g", "10", "-bf", "2"),
    "a.webm": ("-c:v", "libvpx-vp9", "-b:v", "1M"),
    "live.webm": ("-c:v", "libvpx-vp9", "-b:v", "1M", "-live", "1"),
    "a.gif": (),
}


def counted(path):
    return FrameCounts().available(path)


@pytest.mark.parametrize("name", CODECS)
def test_every_start_is_exact_and_every_frame_counted(tmp_path, name):
    path = encode(tmp_path / name, *CODECS[name])
    assert counted(path) == 40
    for start in (0, 1, 13, 27, 36):
        assert numbers(read_clip(Source(path, start), ClipRule(4))) == list(range(start, start + 4))


@pytest.mark.parametrize(
    ("name", "codec", "seconds"),
    [("a.mpg", MPEG2, 0.4), ("a.mpg", MPEG2, 1), ("a.ts", X264, 0.5), ("a.mp4", X264, 0.5)],
)
def test_a_file_cut_without_encoding_starts_at_its_first_frame(tmp_path, name, codec, seconds):
    """The jump that looks for the tail cannot be taken back in an .mpg: clips started at frame 3."""
    path = cut(encode(tmp_path / name, *codec), tmp_path / f"cut_{name}", seconds)
    count = counted(path)
    whole = numbers(read_clip(Source(path), ClipRule(count)))
    assert 0 < count <= 40 and whole == list(range(40 - count, 40))
    assert numbers(read_clip(Source(path, 5), ClipRule(3))) == whole[5:8]


@pytest.mark.parametrize(("name", "seconds"), [("cut.mp4", 1.3), ("whole.flv", None)])
def test_random_starts_are_drawn_from_what_decodes(tmp_path, name, seconds):
    """Both headers promise more: of 50 starts 18 and 4 were "truncated"."""
    path = encode(tmp_path / f"a{Path(name).suffix}", *X264, rate=10)
    if seconds:
        path = cut(path, tmp_path / name, seconds)
    count = counted(path)
    assert open_reader(path).promised > count
    for seed in range(50):
        clip = numbers(read_clip(Source(path), ClipRule(4, random_start=True, seed=seed)))
        assert clip == list(range(clip[0], clip[0] + 4)) and clip[-1] < 40
    with pytest.raises(
        VideoError, match=rf"{count} frames of the \d+ that its header promises, too few for {count + 1}"
    ):
        read_clip(Source(path), ClipRule(count + 1))


@pytest.mark.parametrize("promised", [0, 10])
def test_an_avi_whose_header_is_wrong_is_read_to_its_end(tmp_path, promised):
    path = encode(tmp_path / "a.avi", "-c:v", "mjpeg", "-q:v", "2")
    content = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 24), (b"strh", 40)):  # dwTotalFrames, dwLength
        position = content.find(chunk) + offset
        content[position : position + 4] = promised.to_bytes(4, "little")
    path.write_bytes(content)
    assert open_reader(path).promised == promised and counted(path) == 40
    assert numbers(read_clip(Source(path, 20), ClipRule(20))) == list(range(20, 40))


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_av1_is_decoded(tmp_path, name):
    path = encode(tmp_path / name, "-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "20")
    assert isinstance(open_reader(path), FFmpegReader) and counted(path) == 40
    clip = read_clip(Source(path, 30), ClipRule(5, stride=2))
    assert clip.shape == (5, 3, 48, 64) and numbers(clip) == [30, 32, 34, 36, 38]
    with pytest.raises(VideoError, match="40 frames, too few for 41"):
        read_clip(Source(path), ClipRule(41))


def test_a_codec_that_nothing_decodes_is_named(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", "-c:v", "libaom-av1", "-cpu-used", "8", count=2)
    monkeypatch.setattr(FFmpegReader, "_decode", lambda reader: False)
    with pytest.raises(VideoError, match=r"no frame can be decoded: damaged, or its codec AV01 is not known here"):
        read_clip(Source(path), ClipRule(1))


@pytest.mark.parametrize("name", ["a.webm", "a.mkv", "a.mov", "a.flv", "a.wmv", "a.avi", "a.gif"])
def test_half_a_file_is_truncated(tmp_path, name):
    path = encode(tmp_path / name, *{"a.wmv": ("-c:v", "wmv2")}.get(name, CODECS.get(name, X264)))
    assert counted(path) == 40
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="truncated"):
        read_clip(Source(path), ClipRule(2))


@pytest.mark.parametrize("suffix", ["tiff", "tif", "ppm"])
def test_frames_of_other_pictures(tmp_path, suffix):
    for t in range(12):
        cv2.imwrite(str(tmp_path / f"{t}.{suffix}"), np.full((16, 16, 3), 6 * t, np.uint8))
    assert counted(tmp_path) == 12
    assert numbers(read_clip(Source(tmp_path, 8), ClipRule(4))) == [8, 9, 10, 11]


class TestCounts:
    def test_a_file_is_counted_once_and_again_when_it_changes(self, tmp_path, monkeypatch):
        path, file = encode(tmp_path / "a.avi", "-c:v", "mjpeg", count=12), tmp_path / "kept" / "counts.jsonl"
        assert FrameCounts(file).available(path) == 12
        with file.open("a") as half_written:
            half_written.write('{"of": "')
        opened = []
        monkeypatch.setattr("metrics.counts.open_reader", lambda path: opened.append(path) or open_reader(path))
        assert FrameCounts(file).available(path) == 12 and FrameCounts(file).available(path, limit=5) == 5
        assert not opened
        encode(path, "-c:v", "mjpeg", count=9)
        assert FrameCounts(file).available(path) == 9 and opened == [path]

    def test_no_more_is_decoded_than_is_asked_for(self, tmp_path):
        path, counts = encode(tmp_path / "a.avi", "-c:v", "mjpeg", count=12), FrameCounts()
        assert [counts.available(path, limit) for limit in (4, 2, 20, 8, None)] == [4, 2, 12, 8, 12]


class TestWindows:
    @pytest.fixture
    def paths(self, tmp_path):
        one = encode(tmp_path / "0.avi", "-c:v", "mjpeg", count=40)
        return [one, *(Path(shutil.copy(one, tmp_path / f"{i}.avi")) for i in range(1, 10))]

    def test_only_videos_that_are_needed_are_opened(self, paths, monkeypatch):
        """It was all of them: 10,000 for 128 clips."""
        opened = []
        monkeypatch.setattr("metrics.counts.open_reader", lambda path: opened.append(path) or open_reader(path))
        protocol = Protocol("mine", 8, 8, num_frames=4, resolution=16, choice=ClipChoice.windows)
        assert len(choose_clips(paths, protocol, 13)) == 13
        assert opened == paths[:2]

    @pytest.mark.parametrize("workers", [0, 3])
    def test_each_frame_is_decoded_about_once(self, paths, workers, monkeypatch):
        """Readers go on where the last window ended, for each thread; and none is left open."""
        opened, closed = [], []
        monkeypatch.setattr("metrics.readers.open_reader", lambda path: opened.append(path) or open_reader(path))
        monkeypatch.setattr("metrics.readers.OpenCVReader.close", lambda reader: closed.append(reader))
        sources = [Source(path, start) for path in paths[:2] for start in range(0, 40, 4)]
        batches = list(read_clips(sources, ClipRule(4), workers=workers))
        read = [number for _, clips in batches for clip in clips.numpy() for number in numbers(clip)]
        assert read == 2 * list(range(40))
        assert 2 <= len(opened) <= 2 * max(workers, 1) and len(closed) == len(opened)

    def test_a_reader_behind_the_start_is_not_taken(self, paths):
        readers = OpenReaders([paths[0]] * 3)
        clips = [read_clip(Source(paths[0], start), ClipRule(4), readers=readers) for start in (20, 8, 30)]
        assert [numbers(clip)[0] for clip in clips] == [20, 8, 30]


def test_a_link_to_nowhere_is_an_unusable_video(tmp_path):
    """Also where it is a frame among frames, or was a folder of them."""
    good = encode(tmp_path / "good.avi", "-c:v", "mjpeg", count=4)
    (tmp_path / "gone.avi").symlink_to(tmp_path / "nowhere.avi")
    (tmp_path / "clip").symlink_to(tmp_path / "nowhere")
    (tmp_path / "frames").mkdir()
    for t in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"{t}.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "frames" / "3.png").symlink_to(tmp_path / "nowhere.png")
    skipped = []
    paths = [good, tmp_path / "gone.avi", tmp_path / "clip", tmp_path / "frames"]
    ((read, _),) = read_clips([Source(path) for path in paths], ClipRule(4), skipped=skipped)
    assert read == [good]
    names = ["gone.avi", "clip", "frames/3.png"]
    assert [str(error) for error in skipped] == [
        f"{tmp_path}/{name}: cannot be read: a link to nowhere" for name in names
    ]


def test_a_live_recording_and_unfinished_headers_promise_nothing(tmp_path):
    """Half of them is as good as a whole one; a header cut in two is no crash."""
    path = encode(tmp_path / "a.webm", *CODECS["live.webm"])
    for length in (path.stat().st_size // 2, 40, 5):
        path.write_bytes(path.read_bytes()[:length])
        if length > 40:
            assert 0 < counted(path) < 40
        else:
            with pytest.raises(VideoError, match="truncated"):
                counted(path)
