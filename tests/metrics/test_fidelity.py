"""Per-video fidelity and temporal metrics against values worked out by hand."""

import math

import pytest
import torch

from metrics import fidelity, temporal
from metrics.fidelity import CAP_DB, psnr, sqnr, ssim, step_sqnr
from metrics.score_intervals import bootstrap_mean_interval
from metrics.temporal import flicker, neighbour_similarity


def test_psnr_is_per_video_and_capped(videos):
    reference = videos[0][:2].float() / 2
    changed = reference.clone()
    changed[1] += 5
    assert psnr(changed, reference).tolist() == pytest.approx([CAP_DB, 20 * math.log10(255 / 5)])


def test_ssim_is_per_video(videos):
    reference = videos[0][:2]
    changed = reference.clone()
    changed[1] = 255 - changed[1]
    same, inverted = ssim(changed, reference).tolist()
    assert same == pytest.approx(1) and inverted < 0


def test_many_videos_score_as_in_one_batch(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    videos, reference = torch.randint(256, (2, 5, 3, 3, 16, 16), generator=generator, dtype=torch.uint8)
    whole = psnr(videos, reference), ssim(videos, reference), flicker(videos)
    for module in (fidelity, temporal):
        monkeypatch.setattr(module, "BATCH", 2)
    parts = psnr(videos, reference), ssim(videos, reference), flicker(videos)
    assert all(torch.equal(a, b) and a.shape == (5,) for a, b in zip(whole, parts, strict=True))


def test_pixels_of_another_range_score_alike(videos):
    reference, changed = (batch[:2].float() for batch in videos)
    for metric in (psnr, ssim):
        torch.testing.assert_close(metric(changed / 255, reference / 255, data_range=1.0), metric(changed, reference))


def test_ssim_is_the_mean_over_frames(videos):
    reference = videos[0][:2]
    changed = reference.clone()
    changed[:, 1] = 255 - changed[:, 1]
    frames = torch.stack([ssim(changed[:, [t]], reference[:, [t]]) for t in range(4)])
    torch.testing.assert_close(ssim(changed, reference), frames.mean(0))
    assert (frames[1] < 0).all() and (frames[[0, 2, 3]] > 0.99).all()


def test_step_sqnr_averages_the_videos_of_each_step():
    """Errors of a tenth, a hundredth and a thousandth are 20, 40 and 60 dB."""
    reference = torch.full((2, 3, 5), 2.0)
    predictions = reference * (1 + torch.tensor([[0.1, 0.01, 0.001], [0.1, 0.1, 0.1]])[..., None])
    assert step_sqnr(predictions, reference).tolist() == pytest.approx([40, 20], abs=1e-2)


def test_sqnr():
    reference = torch.tensor([[3.0, 4.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    values = reference + torch.tensor([[0.5, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert sqnr(values, reference).tolist() == pytest.approx([20, CAP_DB, -math.inf, CAP_DB])


@pytest.mark.parametrize("metric", [psnr, ssim, sqnr])
def test_shapes_must_agree(metric):
    with pytest.raises(ValueError, match="must have one shape"):
        metric(torch.zeros(1, 2, 3, 16, 16), torch.zeros(1, 2, 3, 16, 17))


def test_flicker():
    ramp = torch.arange(4).mul(10).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2).to(torch.uint8)
    assert flicker(torch.cat([ramp, ramp[:, :1].expand_as(ramp), ramp.flip(1)])).tolist() == [10, 0, 10]


def test_neighbour_similarity():
    quarter_turns = torch.tensor([[[1.0, 0], [0, 2], [-3, 0]], [[1, 0], [2, 0], [-1, 0]]])
    assert neighbour_similarity(quarter_turns).tolist() == pytest.approx([0, 0], abs=1e-6)
    eighths = torch.tensor([[[1.0, 0], [1, 1], [0, 3], [0, 1]]])
    assert neighbour_similarity(eighths).item() == pytest.approx((0.5**0.5 + 0.5**0.5 + 1) / 3)
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        neighbour_similarity(quarter_turns[:, :1])


def test_mean_interval_agrees_with_the_normal_one():
    scores = torch.randn(400, generator=torch.Generator().manual_seed(0))
    low, high = bootstrap_mean_interval(scores)
    half = 1.96 * float(scores.std()) / 20
    assert (low, high) == pytest.approx((float(scores.mean()) - half, float(scores.mean()) + half), abs=0.01)
    low, high = bootstrap_mean_interval(scores, level=0.5)
    assert high - low == pytest.approx(2 * half * 0.6745 / 1.96, rel=0.1)
    assert bootstrap_mean_interval(scores, seed=1) != bootstrap_mean_interval(scores, seed=2)
    with pytest.raises(ValueError, match="at least 2 videos"):
        bootstrap_mean_interval(scores[:1])
