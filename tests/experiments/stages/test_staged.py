import pytest
import torch
from safetensors.torch import save_file

from experiments.stages.staged import StoredVideos


@pytest.fixture
def stored(tmp_path):
    """Ten videos in files of 4, 1, 3 and 2, and the same as one tensor."""
    videos = torch.randint(0, 256, (10, 2, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    paths = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for path, part in zip(paths, videos.split([4, 1, 3, 2]), strict=True):
        save_file({"videos": part.contiguous()}, path)
    return StoredVideos(paths), videos


def test_every_slice_is_that_of_one_tensor(stored):
    on_disk, videos = stored
    assert len(on_disk) == 10
    for start in range(11):
        for stop in range(start + 1, 12):
            assert torch.equal(on_disk[start:stop], videos[start:stop])
    assert torch.equal(on_disk[:], videos) and torch.equal(on_disk[-3:], videos[-3:])
    assert all(torch.equal(on_disk[i], videos[i]) for i in range(-10, 10))


@pytest.mark.parametrize("size", [1, 3, 4, 64])
def test_parts_are_cut_whatever_the_files_hold(stored, size):
    on_disk, videos = stored
    parts = list(on_disk.split(size))
    assert [len(part) for part in parts] == [len(part) for part in videos.split(size)]
    assert torch.equal(torch.cat(parts), videos)


def test_only_the_file_asked_for_is_read(stored):
    on_disk, videos = stored
    assert len(on_disk) == 10
    for path in (on_disk.files[0], on_disk.files[3]):
        path.unlink()
    assert torch.equal(on_disk[5:8], videos[5:8])
    with pytest.raises(FileNotFoundError):
        _ = on_disk[3:5]


def test_what_cannot_be_read_in_order_is_refused(stored):
    with pytest.raises(ValueError, match=r"videos\[::2\]: stored videos are read in order, the step must be 1"):
        _ = stored[0][::2]
    with pytest.raises(IndexError):
        _ = stored[0][10]
