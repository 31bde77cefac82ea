"""How far videos have moved, and how many tipped: a few lost ones do not hide what happened to the rest."""

import pytest
import torch

from metrics.catalogue.displacement import DISPLACEMENT, TIPPED
from metrics.catalogue.fvd import FVD_FP
from metrics.displacement import UndefinedError, displacement
from metrics.inputs import FeatureSets


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FP = 3 * randn(200, 16)


def values(features, fp=FP):
    sets = FeatureSets(features=features, fp_features=fp, reference=fp[:0])
    return DISPLACEMENT.compute(sets), TIPPED.compute(sets)


def test_the_unit_is_the_distance_of_two_of_fps_videos():
    assert displacement(FP, FP).tolist() == [0] * 200
    assert displacement(FP.roll(1, 0), FP).median() == pytest.approx(1, rel=0.1)
    distances = [(FP[i] - FP[j]).norm() for i in range(200) for j in range(i)]
    moved = displacement(FP + 1, FP)
    assert moved.tolist() == pytest.approx([4 / torch.tensor(distances).median().item()] * 200, rel=1e-3)
    assert torch.allclose(displacement(10 * FP + 10, 10 * FP), moved, rtol=1e-5)


def test_one_lost_video_in_twenty_makes_the_distance_and_not_the_median():
    small = FP + 0.1 * randn(200, 16, seed=1)
    tipping = torch.where(torch.arange(200)[:, None] % 20 == 0, 3 * randn(200, 16, seed=2) + 4, small)
    (moved, share), (tipped_moved, tipped_share) = values(small), values(tipping)
    assert tipped_moved.value == pytest.approx(moved.value, rel=0.05)
    assert share.value == 0 and tipped_share.value == pytest.approx(10 / 200)
    assert tipped_share.interval[0] < 10 / 200 < tipped_share.interval[1] and tipped_share.per_video.sum() == 10
    distances = [FVD_FP.compute(FeatureSets(features=x, fp_features=FP, reference=FP[:0])) for x in (small, tipping)]
    assert distances[1].value > 10 * distances[0].value


def test_the_median_lies_between_two_videos_of_the_interval():
    moved, _ = values(FP + randn(200, 1, seed=3).exp())
    low, high = moved.interval
    assert low < moved.value < high and {low, high} <= set(moved.per_video.tolist())


def test_what_cannot_be_measured_is_said():
    with pytest.raises(ValueError, match=r"one shape, got \(200, 16\) and \(199, 16\)"):
        displacement(FP, FP[1:])
    with pytest.raises(UndefinedError, match="do not differ from each other"):
        displacement(FP, torch.zeros_like(FP))
    for value in values(FP, torch.zeros_like(FP)):
        assert value.value is value.per_video is value.interval is None
        assert value.warnings[0].startswith("no displacement: the FP model's videos do not differ")
