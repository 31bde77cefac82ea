"""Every number of an arm is computed anew from the stored videos, each against what it says it compares with."""

import numpy as np
import pytest
import torch

from tests.end_to_end.independent import calls, load_pipeline, prompts
from tests.end_to_end.names import (
    LPIPS,
    ClipScorer,
    Shapes,
    arm_record,
    clip_scores,
    convert,
    flicker,
    frechet_distance,
    kernel_distance,
    load_extractor,
    neighbour_similarity,
    paired_bootstrap_interval,
    psnr,
    sqnr,
    ssim,
)
from tests.end_to_end.small_run import BATCH, FP, N_VIDEOS, QUANTIZED, STEPS

FEWER = 2 * BATCH


@pytest.fixture(scope="module")
def extractor():
    return load_extractor("shapes_classifier")


@pytest.fixture(scope="module")
def features(small_run, extractor):
    """Of each arm's videos, and of the reference clips."""
    clips = np.stack([Shapes().clip(index).frames for index in range(N_VIDEOS)])
    videos = {name: small_run.videos(name) for name in (FP, *QUANTIZED)} | {"reference": torch.from_numpy(clips)}
    return {name: extractor(batch).double() for name, batch in videos.items()}


def near(value):
    return pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("name", [FP, *QUANTIZED])
def test_fvd_and_kvd_are_to_the_reference(small_run, features, name):
    metrics, pair = small_run.metrics[name], (features[name], features["reference"])
    assert metrics["fvd"] == near(frechet_distance(*pair))
    assert metrics["kvd"] == near(kernel_distance(*pair, paired=True).value)
    # Row i of both sides belongs to one prompt: pairs are resampled.
    assert metrics["fvd_ci"] == near(list(paired_bootstrap_interval(*pair)))
    assert metrics["n_reference"] == metrics["n_videos"] == N_VIDEOS


@pytest.mark.parametrize("name", QUANTIZED)
def test_fvd_fp_is_to_the_fp_models_videos(small_run, features, name):
    metrics, pair = small_run.metrics[name], (features[name], features[FP])
    assert metrics["fvd_fp"] == near(frechet_distance(*pair))
    assert metrics["fvd_fp_ci"] == near(list(paired_bootstrap_interval(*pair)))
    assert metrics["fvd_fp"] != near(metrics["fvd"])
    assert metrics["kvd_fp"] == near(kernel_distance(*pair, paired=True).value)


@pytest.mark.parametrize("name", QUANTIZED)
def test_fidelity_is_to_the_fp_models_videos(small_run, name):
    metrics, pair = small_run.metrics[name], (small_run.videos(name), small_run.videos(FP))
    lpips = LPIPS.from_file(small_run.config.protocol.lpips_weights)
    for metric, scores in (("psnr_fp", psnr(*pair)), ("ssim_fp", ssim(*pair)), ("lpips_fp", lpips(*pair))):
        assert metrics[metric] == near(scores.mean().item()), metric


def test_the_fp_model_is_not_compared_with_itself(small_run):
    compared = ("fvd_fp", "psnr_fp", "ssim_fp", "lpips_fp")
    assert all(small_run.metrics[FP][f"{metric}{ci}"] is None for metric in compared for ci in ("", "_ci"))


@pytest.mark.parametrize("name", [FP, *QUANTIZED])
def test_clipsim_is_of_the_arms_videos_with_their_own_prompts(small_run, name):
    metrics, videos = small_run.metrics[name], small_run.videos(name)
    scorer, texts = ClipScorer.from_pretrained("shapes_clip"), prompts("evaluation", range(N_VIDEOS))
    assert metrics["clipsim"] == near(clip_scores(scorer, videos, texts).mean().item())
    assert metrics["clipsim"] != near(clip_scores(scorer, videos, texts[1:] + texts[:1]).mean().item())
    assert metrics["clip_temp"] == near(neighbour_similarity(scorer.encode_frames(videos)).mean().item())
    assert metrics["flicker"] == near(flicker(videos).mean().item())


@pytest.fixture(scope="module")
def pipeline(small_run):
    return load_pipeline(small_run)


@pytest.fixture(scope="module")
def fp_calls(pipeline):
    """What the FP denoiser reads and predicts on the first batch of evaluation videos."""
    return calls(pipeline, range(BATCH), "evaluation")


def decibels(predictions, fp_calls):
    return [sqnr(ours, theirs).mean().item() for ours, (_, theirs) in zip(predictions, fp_calls, strict=True)]


@pytest.mark.parametrize("name", QUANTIZED)
def test_sqnr_is_to_fp_on_its_inputs_and_on_the_arms_own(small_run, pipeline, fp_calls, name):
    metrics, denoiser = small_run.metrics[name], convert(pipeline.unet, small_run.quantization(name))
    with torch.no_grad():
        forced = [denoiser(*args, **kwargs)[0] for (args, kwargs), _ in fp_calls]
    free = [prediction for _, prediction in calls(pipeline, range(BATCH), "evaluation", denoiser)]
    assert metrics["sqnr_videos"] == BATCH and len(forced) == STEPS
    assert metrics["sqnr_teacher_forced"] == pytest.approx(decibels(forced, fp_calls), abs=0.01)
    assert metrics["sqnr_free_running"] == pytest.approx(decibels(free, fp_calls), abs=0.01)


def test_an_arm_on_fewer_videos_is_compared_with_as_many(small_run, features):
    """As an experiment's arm with `n_videos` of its own: all its videos are in the store, its metrics are not yet."""
    arm, runner = small_run.arm_on("naive w8a8", FEWER)
    metrics = arm_record(runner.run(arm)[0])
    fewer = {name: rows[:FEWER] for name, rows in features.items()}
    assert metrics["n_videos"] == metrics["n_reference"] == FEWER
    assert metrics["fvd"] == near(frechet_distance(fewer[arm.name], fewer["reference"]))
    assert metrics["fvd_fp"] == near(frechet_distance(fewer[arm.name], fewer[FP]))
    fp, _ = runner.run(runner.config.floating_point(FEWER))
    assert fp.estimate("fvd").value == near(frechet_distance(fewer[FP], fewer["reference"]))
