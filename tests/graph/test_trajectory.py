"""Step-by-step predictions of two denoisers on the shipped model."""

import copy

import pytest
import torch

from experiments.attributes import compose_run_config
from metrics.fidelity import CAP_DB, step_sqnr
from qvd.graph.trajectory import predictions, recorded_calls, teacher_forced
from qvd.models.loading import load_pipeline
from qvd.models.sampling import sample_batch

PROMPTS = ["a red circle moving left on a plain background"]


@pytest.fixture(scope="module")
def setup():
    adapter = compose_run_config([]).model
    pipeline = load_pipeline(adapter, "cpu")
    denoiser = adapter.denoiser(pipeline)
    worse = copy.deepcopy(denoiser)
    with torch.no_grad():
        worse.conv_out.weight.mul_(1.1)
    return adapter, pipeline, denoiser, worse


def calls_of(setup, leader):
    adapter, pipeline, denoiser, _ = setup
    adapter.set_denoiser_(pipeline, leader)
    try:
        with recorded_calls(leader) as calls:
            sample_batch(adapter, pipeline, PROMPTS, range(1), seed=0, split="evaluation", num_inference_steps=3)
        return calls
    finally:
        adapter.set_denoiser_(pipeline, denoiser)


def test_a_copy_predicts_exactly_the_same_from_recorded_inputs(setup):
    calls = calls_of(setup, setup[2])
    reference, forced = predictions(calls), teacher_forced(copy.deepcopy(setup[2]), calls)
    assert reference.shape[:2] == (3, 2) and torch.equal(reference, forced)
    assert step_sqnr(forced, reference).tolist() == [CAP_DB] * 3


def test_on_its_own_path_a_denoisers_errors_add_up(setup):
    _, _, denoiser, worse = setup
    calls = calls_of(setup, denoiser)
    reference, forced = predictions(calls), teacher_forced(worse, calls)
    free = predictions(calls_of(setup, worse))
    assert torch.equal(free[0], forced[0]) and not torch.allclose(free[2], forced[2])
    forced_db, free_db = step_sqnr(forced, reference), step_sqnr(free, reference)
    assert forced_db[0] == free_db[0] and free_db[2] < forced_db[2]
    assert forced_db.tolist() == pytest.approx([20] * 3, abs=3)  # a weight 10 % too large: 20 dB, but for the bias
