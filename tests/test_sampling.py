import pytest
import torch

from qvd.calibration import captured_steps
from qvd.sampling import batches, noise_generator


def draw(*key):
    return torch.randn(4, generator=noise_generator(*key))


def test_noise_depends_on_seed_split_and_index_alone():
    assert torch.equal(draw(0, "evaluation", 5), draw(0, "evaluation", 5))
    others = [draw(1, "evaluation", 5), draw(0, "calibration", 5), draw(0, "evaluation", 6)]
    assert not any(torch.equal(draw(0, "evaluation", 5), other) for other in others)


def test_batches_cover_everything_once():
    assert [index for part in batches(37, 16) for index in part] == list(range(37))


def test_captured_steps_are_even_and_include_both_ends():
    assert captured_steps(50, 6) == [0, 10, 20, 29, 39, 49]
    assert captured_steps(10, 10) == list(range(10))


@pytest.mark.parametrize("num_steps", [0, 11])
def test_more_steps_than_the_sampler_takes(num_steps):
    with pytest.raises(ValueError, match=f"calibration.num_steps={num_steps}: must lie in 1..10"):
        captured_steps(10, num_steps)
