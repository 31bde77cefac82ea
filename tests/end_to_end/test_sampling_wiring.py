"""The stored videos are those of their arm, seeds, prompts, steps and guidance, as diffusers itself draws them."""

from dataclasses import replace

import pytest

from tests.end_to_end.independent import draw, load_pipeline, prompts
from tests.end_to_end.names import Reporter, Stages, Store, convert
from tests.end_to_end.small_run import BATCH, FP, N_VIDEOS, QUANTIZED, SEED

LAST = range(2 * BATCH, N_VIDEOS)  # the batch that is not full


@pytest.fixture(scope="module")
def pipeline(small_run):
    return load_pipeline(small_run)


def difference(videos, others):
    return (videos.float() - others.float()).abs().mean().item()


@pytest.mark.parametrize("name", [FP, *QUANTIZED])
def test_an_arms_videos_are_its_denoisers_from_the_evaluation_noise(small_run, pipeline, name):
    denoiser = None if name == FP else convert(pipeline.unet, small_run.quantization(name))
    stored = small_run.videos(name)
    assert len(stored) == N_VIDEOS
    assert difference(stored[LAST.start :], draw(pipeline, LAST, denoiser=denoiser)) < 0.01


def test_arms_and_splits_and_seeds_differ(small_run, pipeline):
    """By far more than the test above allows."""
    fp = small_run.videos(FP)
    assert difference(fp[LAST.start :], draw(pipeline, LAST, "calibration")) > 5
    assert difference(fp[LAST.start :], draw(pipeline, LAST, seed=SEED + 1)) > 5
    assert all(difference(fp, small_run.videos(name)) > 0.2 for name in QUANTIZED)


def test_a_video_does_not_depend_on_its_place_in_a_batch(small_run, pipeline):
    chosen = [N_VIDEOS - 1, 0, BATCH]
    assert difference(small_run.videos(FP)[chosen], draw(pipeline, chosen)) < 0.01


def test_every_batch_is_stored_with_its_prompts(small_run):
    result, _ = small_run.runner.run(small_run.config.floating_point(N_VIDEOS))
    assert result.prompts == prompts("evaluation", range(N_VIDEOS))
    assert (result.videos[:] == small_run.videos(FP)).all()


def test_another_seed_in_the_same_store_is_another_run(small_run, pipeline):
    config = replace(small_run.config, seed=SEED + 1, n_videos=BATCH)
    stages = Stages(config, Store(config.store), Reporter(quiet=True))
    arm = small_run.arm(QUANTIZED[0])
    samples, calibration = stages.samples(None), stages.calibration(arm.method.calibration)
    quantized = stages.quantization(arm, calibration, stages.ranges(calibration))
    assert difference(samples.videos[:], draw(pipeline, range(BATCH), seed=SEED + 1)) < 0.01
    own = (
        small_run.stages.for_videos(BATCH).samples(None),
        small_run.calibration(arm.name),
        small_run.quantized(arm.name),
    )
    for ours, others in zip(own, (samples, calibration, quantized), strict=True):
        assert ours.key != others.key
    assert own[2].metadata["map"] != quantized.metadata["map"]
