"""The native I3D against the golden logits of piergiaj's network, and its TorchScript export."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.extractors.i3d import I3DExtractor, InceptionI3D, pad_same, to_network_input
from metrics.extractors.loading import load_extractor

GOLDEN = Path(__file__).parents[1] / "golden" / "i3d_random_weights.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def state_dict(golden):
    """The golden's weights, drawn in sorted key order as its README says."""
    generator = torch.Generator().manual_seed(int(golden["seed"]))
    state = {}
    for key, shape in sorted(zip(golden["keys"], golden["shapes"], strict=True)):
        size = [int(s) for s in shape.strip("(),").split(",") if s.strip()]
        state[str(key)] = random_parameter(str(key), size, generator)
    return state


def random_parameter(key, size, generator):
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return 0.5 + torch.rand(size, generator=generator)
    if key.endswith("bn.weight"):
        return 0.75 + 0.5 * torch.rand(size, generator=generator)
    if len(size) > 1:
        return torch.randn(size, generator=generator) * (2 / np.prod(size[1:])) ** 0.5
    return 0.1 * torch.randn(size, generator=generator)


@pytest.fixture(scope="module")
def network(state_dict):
    network = InceptionI3D()
    network.load_state_dict(state_dict)
    return network.eval().requires_grad_(False)


def relative_error(value, reference):
    return float((value - reference).norm() / reference.norm())


def test_logits_equal_the_golden(network, golden):
    shape = (1, 3, int(golden["frames"]), int(golden["size"]), int(golden["size"]))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(int(golden["seed"]) + 1)) * 2 - 1
    assert relative_error(network(x), torch.from_numpy(golden["logits"])) < 1e-4


@pytest.mark.full
def test_extractor_and_torchscript_export_agree(network, state_dict, tmp_path):
    torch.save(state_dict, tmp_path / "i3d.pt")
    extractor = load_extractor("i3d", tmp_path / "i3d.pt")
    videos = torch.randint(0, 256, (1, 10, 3, 40, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    features = extractor(videos)
    assert features.shape == (1, 400) and len(extractor.sha256) == 64
    torch.jit.script(network).save(tmp_path / "i3d_script.pt")
    exported = torch.jit.load(tmp_path / "i3d_script.pt")
    assert relative_error(exported(to_network_input(videos, 224)), features) < 1e-5


def test_same_padding_follows_tensorflow():
    """Sizes from TensorFlow's rule: 224 with kernel 7, stride 2 pads (2, 3); 15 with kernel 3, stride 2 pads (1, 1)."""
    padded = pad_same(torch.ones(1, 1, 4, 15, 224), [1, 3, 7], [1, 2, 2])
    assert padded.shape == (1, 1, 4, 17, 229)
    assert padded[0, 0, 0, 5, :3].tolist() == [0, 0, 1] and padded[0, 0, 0, 5, -4:].tolist() == [1, 0, 0, 0]


def test_preprocessing_maps_grey_levels_to_plus_minus_one():
    videos = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 3, 5, 7)
    x = to_network_input(videos, 8)
    assert x.shape == (1, 3, 2, 8, 8)
    assert x[0, :, 0].unique().tolist() == [-1] and x[0, :, 1].unique().tolist() == [1]


def test_too_few_frames(state_dict, tmp_path):
    torch.save(state_dict, tmp_path / "i3d.pt")
    with pytest.raises(ValueError, match="needs at least 10 frames, got 9"):
        I3DExtractor(tmp_path / "i3d.pt")(torch.zeros(1, 9, 3, 8, 8, dtype=torch.uint8))
