"""Declarations are found where they stand, and say of a metric what tables and figures print."""

import json
from dataclasses import replace

import pytest
import torch

from metrics.catalogue.clip import CLIP, CLIP_TEMP, CLIPSIM
from metrics.catalogue.displacement import DISPLACEMENT
from metrics.catalogue.fidelity import PSNR, SSIM
from metrics.catalogue.flicker import FLICKER
from metrics.catalogue.fvd import FVD, FVD_FP, FVD_INFINITY
from metrics.catalogue.lpips import LPIPS
from metrics.declaration import Compared, Interval, MetricValue, Place, SetMetric, VideoMetric
from metrics.inputs import FeatureSets, MetricContext, VideoBatch
from metrics.measure import measure_sets, measure_videos
from metrics.protocols import load_protocol
from metrics.registry import declared_metrics, fidelity_metrics, headline_metrics, metrics_of, ranking_metric
from metrics.score_intervals import bootstrap_mean_interval

TINY = load_protocol("tiny")
PROMPTS = ["a b", "c", "a b", *["d e f"] * 21]


@pytest.fixture
def context(clip):
    return MetricContext(protocol=TINY, prompts=PROMPTS, networks={CLIP: clip})


def batches(videos, fp_videos, context, size):
    parts = zip(videos.split(size), fp_videos.split(size), strict=True)
    for first, (of_arm, of_fp) in zip(range(0, len(videos), size), parts, strict=False):
        yield VideoBatch(videos=of_arm, prompts=PROMPTS[first : first + len(of_arm)], context=context, fp_videos=of_fp)


def test_every_declaration_is_found_in_the_order_of_the_table():
    keys = "fvd fvd_inf fvd_fp displacement_fp tipped_fp kvd_fp kvd clipsim clip_temp psnr_fp ssim_fp flicker lpips_fp"
    assert [metric.key for metric in declared_metrics()] == keys.split()
    assert headline_metrics() == (FVD, FVD_FP, CLIPSIM, PSNR)
    assert fidelity_metrics() == (FVD_FP, PSNR) and ranking_metric() is DISPLACEMENT
    with pytest.raises(ValueError, match="metric fdv: allowed are fvd, "):
        metrics_of(["fdv"])


def test_headers_and_titles():
    assert (PSNR.header, PSNR.panel_title) == ("PSNR dB ↑", "PSNR to the FP videos, dB ↑")
    assert (FVD_FP.header, FVD_FP.panel_title) == ("FVD-FP ↓", "FVD to the FP videos ↓ (log)")
    assert (FLICKER.header, CLIPSIM.panel_title) == ("Flicker", "CLIPSIM ↑")


def test_what_an_arm_has_no_value_for():
    assert FVD.is_defined(TINY, is_fp=True) and not FVD_FP.is_defined(TINY, is_fp=True)
    assert not PSNR.is_defined(TINY, is_fp=True) and PSNR.is_defined(TINY, is_fp=False)
    assert TINY.lpips_weights is None and not LPIPS.is_defined(TINY, is_fp=False)
    assert PSNR.flat(None, None) == {"psnr_fp": None, "psnr_fp_ci": None}


def test_a_declaration_is_checked():
    with pytest.raises(ValueError, match="key=a_ci: must be an identifier"):
        replace(FLICKER, key="a_ci")
    with pytest.raises(ValueError, match="ranks=True needs a direction"):
        replace(FLICKER, ranks=True)
    with pytest.raises(ValueError, match="not reference"):
        replace(FLICKER, compares_with=Compared.reference)


@pytest.mark.parametrize("size", [1, 5, 16])
def test_videos_may_come_in_any_batches(videos, context, size):
    arm, fp = videos
    metrics = [CLIPSIM, CLIP_TEMP, PSNR, SSIM, FLICKER]
    whole, parts = (measure_videos(metrics, batches(arm, fp, context, n)) for n in (len(arm), size))
    for metric in metrics:
        value = parts[metric.key]
        assert value.per_video.shape == (len(arm),)
        assert torch.allclose(value.per_video, whole[metric.key].per_video, atol=1e-6)
        assert value.value == value.per_video.double().mean().item()
        assert value.interval == bootstrap_mean_interval(value.per_video)


def test_frames_are_embedded_once_a_batch_and_prompts_once_a_set(videos, context, clip):
    seen = {"frames": 0, "prompts": 0}

    def count(key):
        return lambda module, args, output: seen.update({key: seen[key] + len(output[0])})

    handles = [
        clip.model.vision_model.register_forward_hook(count("frames")),
        clip.model.text_model.register_forward_hook(count("prompts")),
    ]
    measure_videos([CLIPSIM, CLIP_TEMP], batches(*videos, context, 8))
    for handle in handles:
        handle.remove()
    assert seen == {"frames": 24 * 4, "prompts": 3}


def test_a_score_for_each_video(videos, context):
    metric = VideoMetric(key="mean", name="Mean", compute=lambda batch: batch.videos.float().mean()[None])
    with pytest.raises(ValueError, match=r"metric mean: needs one score for each of 8 videos, got shape \(1,\)"):
        measure_videos([metric], batches(*videos, context, 8))


def test_a_mean_without_an_interval(videos, context):
    (result,) = measure_videos([replace(FLICKER, interval=Interval.none)], batches(*videos, context, 8)).values()
    assert result.interval is None and result.per_video is not None


def test_no_fp_videos(videos, context):
    alone = VideoBatch(videos=videos[0], prompts=PROMPTS, context=context)
    with pytest.raises(ValueError, match="there are none"):
        measure_videos([PSNR], [alone])


def test_sets_are_compared_with_reference_and_fp():
    arm, fp, clips = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(0))
    results = measure_sets([FVD, FVD_INFINITY, FVD_FP], FeatureSets(features=arm, fp_features=arm + 1, reference=clips))
    assert results["fvd_fp"].value == pytest.approx(6)
    infinity = results["fvd_inf"]
    flat = FVD_INFINITY.flat(infinity.value, infinity.interval)
    assert list(flat) == ["fvd_inf", "fvd_inf_ci"] and list(infinity.details) == ["fvd_inf_r_squared"]
    assert json.dumps({**flat, **infinity.details})
    assert results["fvd"].warnings == ("fvd is biased upwards: 40 videos, fewer than 2048",)
    with pytest.raises(ValueError, match="need at least 8"):
        measure_sets([FVD], FeatureSets(features=arm[:7], fp_features=fp, reference=clips))


def test_networks_are_told_apart_by_their_weights(clip_folder):
    protocol = replace(TINY, clip=str(clip_folder))
    before = CLIP.identity(protocol)
    assert "model.safetensors:" in before and CLIP.identity(TINY) != before
    assert CLIP.identity(replace(TINY, clip="openai/clip-vit-base-patch32")) == "openai/clip-vit-base-patch32"
    (clip_folder / "note.txt").write_text("changed")
    assert CLIP.identity(protocol) != before


def test_a_place_is_optional():
    assert LPIPS.place is None and SetMetric(key="a", name="A", compute=lambda sets: MetricValue(0.0)).place is (
        Place.DOCUMENT
    )
