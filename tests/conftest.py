import tests.environment  # isort: skip  # noqa: F401  (before what reads it)

import json
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from hypothesis import settings

from qvd.store import source
from tests.tiny_unet import adapter, calibration, ranges, unet  # noqa: F401  (fixtures)

torch.set_num_threads(1)
settings.register_profile("default tier", max_examples=10, deadline=None)
settings.register_profile("full tier", max_examples=50, deadline=None)


def pytest_configure(config):
    settings.load_profile("default tier" if config.option.markexpr == "not full" else "full tier")


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """Two videos of 320 frames: 80 clips of 8 frames."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (48, 400, 3), np.uint8)
    for name, step in (("pan.mp4", 1), ("fast.mp4", 2)):
        frames = [np.roll(texture, -step * t, axis=1)[:, :64] for t in range(320)]
        iio.imwrite(folder / name, np.stack(frames), fps=25, codec="libx264")
    return folder


@pytest.fixture(scope="session")
def dataset_words(footage, tmp_path_factory):
    """By dataset: the command-line words that point it at the footage in its own layout, with 80 clips or more."""
    root = tmp_path_factory.mktemp("datasets")
    for video, place in (("pan", "ApplyLipstick/v_ApplyLipstick_g01_c01"), ("fast", "YoYo/v_YoYo_g01_c01")):
        (root / "ucf101" / place).parent.mkdir(parents=True)
        shutil.copy(footage / f"{video}.mp4", root / "ucf101" / f"{place}.mp4")
    (root / "msrvtt").mkdir()
    for video, number in (("pan", 7010), ("fast", 7011)):
        shutil.copy(footage / f"{video}.mp4", root / "msrvtt" / f"video{number}.mp4")
    captions = [{"video_id": f"video{n}", "caption": f"caption {i} of {n}"} for n in (3, 7010, 7011) for i in range(20)]
    (root / "captions.json").write_text(json.dumps({"sentences": captions}))
    for folder in ("sky_train/clip", "train/clip"):
        (root / "frames" / folder).mkdir(parents=True)
        for t in range(520):
            (root / "frames" / folder / f"{t}.png").touch()
    (root / "prompts.txt").write_text("a red circle growing\na blue cross moving left\n")
    return {
        "prompts": [f"dataset.file={root}/prompts.txt"],
        "folder": [f"dataset.root={footage}"],
        "ucf101": [f"dataset.root={root}/ucf101"],
        "msrvtt": [
            f"dataset.root={root}/msrvtt",
            f"dataset.annotations={root}/captions.json",
            "dataset.skip_bad=true",
        ],
        **{name: [f"dataset.root={root}/frames"] for name in ("skytimelapse", "taichi", "faceforensics")},
    }


class SourceTree:
    """A folder of modules in the place of the repository."""

    def __init__(self, root):
        self.root = root

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.forget()

    def move(self, name, new_name):
        (self.root / name).rename(self.root / new_name)
        self.forget()

    def forget(self):
        """What has been read of files is kept for the life of a process."""
        for function in vars(source).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    sources = SourceTree(tmp_path / "source")
    monkeypatch.setattr(source, "ROOT", sources.root)
    sources.forget()
    yield sources
    sources.forget()
