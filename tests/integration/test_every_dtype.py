"""Every method on every family in every dtype of the weights, through the stages of a run."""

from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pytest

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from experiments.progress import Reporter
from experiments.stages.stages import Stages
from metrics.fidelity import psnr
from qvd.models import latte_class
from qvd.options.model import DType
from qvd.store.artifacts import Artifact, Store
from tests.hub_folders import FAMILIES, FRAMES, SIDE, saved

LEARNING = [f"adaround.{key}" for key in ("iterations=2", "batch_size=2", "entries=2", "sweeps=1")]
OPTIONS = {
    "qdiffusion": [*LEARNING, "lsq.iterations=1", "lsq.entries=2"],
    "tfmq": LEARNING,
    "qvd": ["capture_rows=8", "tau_candidates=1"],
}
CASES = {
    name: (name, OPTIONS.get(name, []))
    for name in sorted(path.stem for path in (CONF / "quantizer").glob("*.yaml"))
    if name != "fp"
}
CASES["qvd, blocks"] = ("qvd", [*OPTIONS["qvd"], "reconstruction=block", "scri=shift", *LEARNING])
CALIBRATION = [f"calibration.{key}" for key in ("num_samples=1", "num_steps=2", "timesteps=uniform")]


@pytest.fixture(scope="module")
def arms():
    """Name of a case → its arm."""
    built = {}
    for name, (quantizer, options) in CASES.items():
        words = [f"quantizer.{option}" for option in (*CALIBRATION, *options)]
        built[name] = compose_run_config([f"quantizer={quantizer}", "bits=w6a8", *words]).arms[0]
    return built


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Family → the words of its folder."""
    return {family: saved(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(scope="module", autouse=True)
def few_classes():
    """HTDQ on some of the classes: it compares all pairs of rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latte_class, "MAX_FEATURES", 16)
        yield


class Case(NamedTuple):
    stages: Stages
    ranges: Artifact


@pytest.fixture(scope="module")
def case(request, words, arms, tmp_path_factory):
    family, dtype = request.param
    own = [f"model.dtype={dtype.value}", f"protocol.num_frames={FRAMES}", "quantizer=fp"]
    config = compose_run_config([*words[family], *own])
    stages = Stages(replace(config, n_videos=1), Store(tmp_path_factory.mktemp("store")), Reporter(quiet=True))
    return Case(stages, stages.ranges(stages.calibration(arms["naive"].method.calibration)))


def parameters():
    """The default tier has every method but the learning ones on one family, and on all the one that does most."""
    for family, dtype, name in product(FAMILIES, DType, CASES):
        every = (family, dtype) == ("modelscope", DType.bfloat16) and name not in ("qdiffusion", "tfmq")
        most = (dtype, name) == (DType.float16, "qvd, blocks")
        marks = () if every or most else pytest.mark.full
        yield pytest.param((family, dtype), name, marks=marks, id=f"{family}-{dtype.value}-{name}")


@pytest.mark.parametrize(("case", "name"), parameters(), indirect=["case"], scope="module")
def test_quantizes_and_samples(case, arms, name):
    stages, arm = case.stages, arms[name]
    quantized = stages.quantization(arm, stages.calibration(arm.method.calibration), case.ranges)
    assert quantized.tensors
    assert all(tensor.isfinite().all() for tensor in quantized.tensors.values())
    videos, expected = (stages.samples(q).videos[:] for q in (quantized, None))
    assert videos.shape == (1, FRAMES, 3, SIDE, SIDE) and expected.float().std() > 0
    assert psnr(videos, expected) > 20, "whatever is not finite ends as black pixels"
