"""A quantization on disk: what comes back, and what is refused."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qvd.numerics.grids import AffineGrid
from qvd.options.rules import RangeMethod
from qvd.spec.files import FILE, load, save
from qvd.spec.quantization import LayerQuantization, Quantization, quantize_weight


@pytest.fixture
def quantization():
    weight = quantize_weight(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), 4, RangeMethod.minmax)
    return Quantization({"x": LayerQuantization("x", "linear", "test", weight, AffineGrid(8, 0.5, 5.0))}, {})


def test_what_is_written_comes_back(quantization, tmp_path):
    folder = tmp_path / "new" / "folder"
    assert save(quantization, folder) == folder / FILE == folder / "quantization.safetensors"
    restored = load(folder)
    assert restored.map == quantization.map
    assert torch.equal(restored.layers["x"].weight.codes, quantization.layers["x"].weight.codes)


def test_writing_again_replaces(quantization, tmp_path):
    save(Quantization({}, {}), tmp_path)
    save(quantization, tmp_path)
    assert list(load(tmp_path).layers) == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_newer_or_foreign_file_is_refused(quantization, tmp_path):
    path = save(quantization, tmp_path)
    with safe_open(path, "pt") as content:
        metadata = content.metadata()
    assert metadata["format_version"] == "1", "files written today must be read tomorrow: a change is a new version"
    save_file(load_file(path), path, metadata | {"format_version": "2"})
    with pytest.raises(ValueError, match="format version 2: this version of qvd reads up to 1"):
        load(tmp_path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="format version none"):
        load(tmp_path)
