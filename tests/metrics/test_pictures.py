"""A picture is whole, or named."""

import cv2
import numpy as np
import pytest
from PIL import Image

from metrics.decoding import Source, read_clip
from metrics.errors import VideoError
from metrics.options import ClipRule
from metrics.pictures import read_pictures

FORMATS = [
    ("jpg", {}),
    ("jpg", {"progressive": True}),
    ("jpg", {"subsampling": 0, "quality": 100}),
    ("png", {}),
    ("webp", {}),
    ("tiff", {}),
    ("bmp", {}),
]


def picture(seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((160, 120))


@pytest.mark.parametrize(("suffix", "options"), FORMATS)
def test_what_is_cut_off_is_named(tmp_path, suffix, options):
    """OpenCV fills the rest of a JPEG with grey, and says so on stderr alone."""
    for t in range(3):
        picture(t).save(tmp_path / f"{t}.{suffix}", **options)
    whole = read_clip(Source(tmp_path), ClipRule(3))
    assert whole.shape == (3, 3, 120, 160)
    file = tmp_path / f"1.{suffix}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(VideoError, match=rf"1\.{suffix}: cannot be decoded: not a whole picture"):
        read_clip(Source(tmp_path), ClipRule(3))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_a_part_inside_is_named(tmp_path, options):
    for t in range(3):
        picture(t).save(tmp_path / f"{t}.jpg", **options)
    content = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(content[: len(content) // 3] + content[len(content) // 2 :])
    with pytest.raises(VideoError, match=r"2\.jpg: damaged: a part of the picture cannot be decoded"):
        read_clip(Source(tmp_path), ClipRule(3))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_what_libjpeg_warns_of_is_named(tmp_path, options, capfd):
    """Bytes are missed in the middle: what the decoder makes up for is a line on stderr, and a video of it is none."""
    file = tmp_path / "0.jpg"
    picture().save(file, **options)
    content, warned = file.read_bytes(), 0
    for middle in np.linspace(0.3, 0.9, 12) * len(content):
        file.write_bytes(content[: int(middle)] + content[int(middle) + 64 :])
        capfd.readouterr()
        cv2.imread(str(file))
        if capfd.readouterr().err:
            warned += 1
            with pytest.raises(VideoError, match=r"0\.jpg: damaged: a part of the picture cannot be decoded \(Corrupt"):
                read_pictures([file])
    assert warned > 3


def test_padding_after_the_last_pixel_is_no_damage(tmp_path):
    file = tmp_path / "0.jpg"
    picture().save(file)
    whole, content = read_pictures([file])[0], file.read_bytes()
    for padding in (bytes(20), b"\x20" * 7):
        file.write_bytes(content[:-2] + padding + content[-2:])
        assert np.array_equal(read_pictures([file])[0], whole)
    file.write_bytes(content[:-2] + content[-40:])
    with pytest.raises(VideoError, match="extraneous bytes"):
        read_pictures([file])


def test_intact_pictures_of_every_kind_are_as_opencv_reads_them(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    picture().save(tmp_path / "turned.jpg", exif=exif)
    picture().convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture().convert("L").save(tmp_path / "grey.jpg")
    picture().crop((0, 0, 131, 97)).save(tmp_path / "odd.jpg", subsampling="4:1:1", quality=20, optimize=True)
    picture().convert("P").save(tmp_path / "palette.png")
    cv2.imwrite(str(tmp_path / "deep.png"), np.asarray(picture()).astype(np.uint16) * 257)
    (tmp_path / "longer.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes() + b"\0" * 10)
    files = sorted(tmp_path.iterdir())
    for file, found in zip(files, read_pictures(files), strict=True):
        assert np.array_equal(found, cv2.imread(str(file))[:, :, ::-1]), file.name
    assert read_pictures([tmp_path / "turned.jpg"])[0].shape == (160, 120, 3)


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (("empty", "empty file"), ("text", "cannot be decoded"), ("gone", "No such file")):
        with pytest.raises(VideoError, match=rf"{name}\.png: .*{message}"):
            read_pictures([tmp_path / f"{name}.png"])
