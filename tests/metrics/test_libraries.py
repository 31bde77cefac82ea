"""LPIPS and Inception Score against torchmetrics on the same weights and logits."""

import os

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from metrics.inception import inception_score
from metrics.lpips import ALEXNET_URL, LPIPS, TAPS, _unit, alexnet_features

WEIGHTS = os.environ.get("QVD_ALEXNET")


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    return {f"features.{name}": value for name, value in alexnet_features().state_dict().items()}


@pytest.fixture(scope="module")
def pair():
    videos = torch.randint(0, 256, (2, 3, 3, 40, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return videos, (videos.float() * 0.8 + 10).to(torch.uint8)


def test_equals_torchmetrics_with_the_same_backbone(alexnet, pair, monkeypatch):
    """torchmetrics would take the backbone from torchvision; it is handed ours, and its own heads and formula."""
    ours = LPIPS(alexnet)
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda net, pretrained: ours.features)
    theirs = torchmetrics_lpips._LPIPS(net="alex", pnet_rand=True)
    frames, others = (videos.flatten(0, 1).float() / 255 for videos in pair)
    expected = theirs(frames, others, normalize=True).view(2, 3).mean(1)
    torch.testing.assert_close(ours(*pair), expected, rtol=1e-4, atol=1e-6)


def test_the_backbone_has_alexnets_sizes():
    """Of a picture of 224×224 (Krizhevsky 2014, figure 1 of the one-tower model): channels, and side."""
    x, sizes = torch.zeros(1, 3, 224, 224), []
    for position, layer in enumerate(alexnet_features()):
        x = layer(x)
        if position in TAPS:
            sizes.append((x.shape[1], x.shape[2]))
    assert sizes == [(64, 55), (192, 27), (384, 13), (256, 13), (256, 13)]


def test_features_that_are_nothing_have_no_length(alexnet):
    """ReLUs may leave a pixel without any feature; torchmetrics adds 1e-8 under the root."""
    assert _unit(torch.zeros(1, 3, 2, 2)).tolist() == torch.zeros(1, 3, 2, 2).tolist()
    torch.testing.assert_close(_unit(torch.full((1, 1, 1, 1), 1e-4)).item(), 0.5**0.5)


def test_identical_videos_have_no_distance_and_shapes_must_agree(alexnet, pair):
    lpips = LPIPS(alexnet)
    assert lpips(pair[0], pair[0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="at least 31 pixels"):
        lpips(pair[0][..., :30, :30], pair[1][..., :30, :30])


def test_reads_torchvisions_file(alexnet, pair, tmp_path):
    torch.save({**alexnet, "classifier.1.weight": torch.zeros(1)}, tmp_path / "alexnet.pth")
    assert torch.equal(LPIPS.from_file(tmp_path / "alexnet.pth")(*pair), LPIPS(alexnet)(*pair))


@pytest.mark.skipif(WEIGHTS is None, reason=f"LPIPS NOT checked with real weights: set QVD_ALEXNET to {ALEXNET_URL}")
def test_noise_is_worse_than_a_shift_of_brightness(pair):
    lpips = LPIPS.from_file(WEIGHTS)
    grey = torch.full_like(pair[0], 128)
    assert lpips(grey, grey + 5).max() < lpips(grey, pair[0]).min()


def test_inception_score_is_its_definition():
    """exp of the mean KL divergence to the marginal, on one split; and its bounds."""
    logits = torch.randn(60, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = F.softmax(logits, 1)
    expected = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()
    one = inception_score(logits, splits=1)
    assert one.mean == pytest.approx(float(expected), rel=1e-9)
    assert inception_score(logits.new_zeros(20, 7)).mean == pytest.approx(1)
    assert inception_score(100 * torch.eye(7).repeat(3, 1), splits=1).mean == pytest.approx(7)
    found = inception_score(logits)
    torch.manual_seed(1)
    assert inception_score(logits) == found != inception_score(logits, seed=1)
    with pytest.raises(ValueError, match="9 videos are too few for 10 splits"):
        inception_score(logits[:9])


def test_as_many_videos_as_splits_are_scored_in_silence(recwarn):
    state = torch.random.get_rng_state()
    assert inception_score(torch.randn(3, 7, generator=torch.Generator().manual_seed(0)), splits=3).mean == 1
    assert not recwarn.list
    assert torch.equal(torch.random.get_rng_state(), state), "the parts are drawn apart from anybody else's numbers"
