import torch

from qvd.models.noise import noise_generator
from qvd.models.sampling import batches


def draw(*key):
    return torch.randn(4, generator=noise_generator(*key))


def test_noise_depends_on_seed_split_and_index_alone():
    assert torch.equal(draw(0, "evaluation", 5), draw(0, "evaluation", 5))
    others = [draw(1, "evaluation", 5), draw(0, "calibration", 5), draw(0, "evaluation", 6)]
    assert not any(torch.equal(draw(0, "evaluation", 5), other) for other in others)


def test_batches_cover_everything_once():
    assert [index for part in batches(37, 16) for index in part] == list(range(37))
