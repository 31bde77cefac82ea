"""Every video as a file: VBench's names, what a file system cannot hold, the manifest, and pixels that survive."""

import csv
import json

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from experiments.export import Sample, export_arms, export_videos, file_name, name_samples
from experiments.options import Export
from experiments.progress import Reporter
from metrics.files.prompts import read_prompts
from metrics.files.tree import find_videos


def files(prompts):
    return [sample.file for sample in name_samples(prompts, "qvd w8a8", seed=3)]


def test_names_are_vbenchs():
    prompts = ["A 3D model of a 1800s victorian house.", "it's “a” cat: what? <yes>"]
    assert files(prompts * 2) == [f"{prompt}-{index}.mp4" for index in (0, 1) for prompt in prompts]
    assert name_samples(prompts * 2, "fp", 7)[3] == Sample(f"{prompts[1]}-1.mp4", prompts[1], 7, 3, 1, "fp")


@pytest.mark.parametrize("prompt", ["a/b", "two\nlines", "tab\there", ".hidden", "nul\0", "猫" * 100, "x" * 300])
def test_what_a_file_system_cannot_hold_is_changed_and_marked(tmp_path, prompt):
    (name,) = files([prompt])
    assert len(name.encode()) <= 255 and "/" not in name and name.isprintable() and name[0] != "."
    assert "~" in name and name.endswith("-0.mp4")
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_two_prompts_share_a_file():
    """Changed alike, cut alike, or alike to a file system that ignores case or composes accents."""
    prompts = ["a/b", "a\nb", "a_b", "x" * 300, "x" * 301, "A_B", "e\u0301", "\u00e9", "cat-1", "cat"]
    names = files(prompts * 2)
    assert len({name.casefold() for name in names}) == len(names)
    assert names[2] == "a_b-0.mp4", "what can be held keeps VBench's name"
    assert names == files(prompts * 2) and names[:10] == files(prompts)


def test_a_name_is_cut_between_letters():
    assert file_name("é" * 200, ".png").encode().decode().startswith("é" * 100)


def clips(count, height=32, width=32):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 3, height // 8, width // 8, generator=generator)
    scaled = torch.nn.functional.interpolate(coarse.flatten(0, 1), (height, width), mode="bilinear")
    return (255 * scaled).to(torch.uint8).unflatten(0, (count, 3))


def test_batches_become_files_with_a_manifest(tmp_path):
    videos, prompts = clips(5), ["a cat", "a/dog"]
    samples = name_samples([prompts[i % 2] for i in range(5)], "qvd, N = 5 w8a8", seed=3)
    (tmp_path / "videos" / "qvd, N = 5 w8a8").mkdir(parents=True)
    (tmp_path / "videos" / "qvd, N = 5 w8a8" / "a whale-0.mp4").touch()
    export_videos(iter([videos[:2], videos[2:4], videos[4:]]), samples, tmp_path, frames=True)
    folder = tmp_path / "videos" / "qvd, N = 5 w8a8"
    assert sorted(path.name for path in folder.iterdir()) == sorted(sample.file for sample in samples)
    for sample, video in zip(samples, videos, strict=True):
        expected = video.permute(0, 2, 3, 1).numpy()
        lossless = tmp_path / "frames" / folder.name / sample.file.removesuffix(".mp4")
        assert np.array_equal(np.stack([iio.imread(file) for file in sorted(lossless.iterdir())]), expected)
        shown = iio.imread(folder / sample.file)
        assert shown.shape == expected.shape and np.abs(shown.astype(int) - expected).mean() < 6
    manifest = json.loads(folder.with_name(f"{folder.name}.json").read_text())
    told = {"prompt": "a/dog", "seed": 3, "sample": 3, "index": 1, "arm": "qvd, N = 5 w8a8"}
    assert manifest[samples[3].file] == told
    rows = list(csv.DictReader(folder.with_name(f"{folder.name}.csv").open(newline="")))
    assert rows[3] == {"file": samples[3].file, **{key: str(value) for key, value in told.items()}}
    for suffix in ("json", "csv"):  # which metrics.cli takes as the videos' prompts
        read = read_prompts(folder.with_name(f"{folder.name}.{suffix}"), find_videos(folder).paths, folder)
        assert read.by_video == {folder / sample.file: sample.prompt for sample in samples} and not read.unused


def test_odd_sides_are_padded_for_players(tmp_path):
    export_videos([clips(1, 40, 40)[..., :33, :35]], name_samples(["a"], "fp", 0), tmp_path)
    assert iio.imread(tmp_path / "videos" / "fp" / "a-0.mp4").shape == (3, 34, 36, 3)


def test_too_few_videos_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        export_videos([clips(1)], name_samples(["a", "b"], "fp", 0), tmp_path)


@pytest.mark.parametrize(("videos", "count"), [("none", 0), (2, 2), ("all", 3)])
def test_every_arm_has_as_many_as_asked_for(arms, tmp_path, videos, count):
    export_arms(arms, tmp_path, Export(videos), Reporter(quiet=True))
    written = [len(list((tmp_path / "videos" / arm.name).glob("*.mp4"))) for arm in arms]
    assert written == [count, count] and not (tmp_path / "frames").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"videos": "some"}, "export.videos=some: allowed are all, none, or a number"),
        ({"videos": 0}, "export.videos=0: allowed"),
        ({"frames": True}, "export.frames=true: no video is exported"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Export(**options)
