import tests.environment  # isort: skip  # noqa: F401  (before what reads it)

import pytest
import torch
from hypothesis import settings

from qvd.store import source
from tests import datasets
from tests.tiny_unet import adapter, calibration, ranges, unet  # noqa: F401  (fixtures)

torch.set_num_threads(1)
settings.register_profile("default tier", max_examples=10, deadline=None)
settings.register_profile("full tier", max_examples=50, deadline=None)


def pytest_configure(config):
    settings.load_profile("default tier" if config.option.markexpr == "not full" else "full tier")


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """Two videos of 320 frames: 80 clips of 8 frames."""
    return datasets.write_footage(tmp_path_factory.mktemp("footage"))


@pytest.fixture(scope="session")
def dataset_words(footage, tmp_path_factory):
    """By dataset: the command-line words that point it at the footage in its own layout, with 80 clips or more."""
    return datasets.lay_out(footage, tmp_path_factory.mktemp("datasets"))


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
