"""What a change of the repository's code makes old, and what it leaves."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from baselines.naive import Naive
from experiments.attributes import compose_run_config
from experiments.progress import Reporter
from experiments.stages import code as stage_code
from experiments.stages.staged import Staged
from experiments.stages.stages import Stages
from qvd.methods.qvd import QVD
from qvd.store.artifacts import Artifact, NotStoredError, Store
from qvd.store.source import PACKAGES, reached_modules
from tests.end_to_end.choices import as_choice

ROOT = Path(__file__).parents[3]
CALIBRATION = Staged("calibration", (), 0.0, 0)
RANGES = Artifact("ranges", {})
QUANTIZED = Artifact("quantized", {})


@pytest.fixture(scope="module")
def config():
    return compose_run_config(["model=tiny_modelscope", "quantizer=qvd", "bits=w4a8"])


@pytest.fixture(scope="module")
def before(config):
    return keys(config)


@pytest.fixture
def repository(before, tree):
    """A copy of the repository's modules."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            copy = tree.root / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return tree


def keys(config) -> dict[str, str]:
    """The key of each stage's first artifact, where the stages before it gave the same."""
    stages = Stages(config, Store("nowhere", read_only=True), Reporter(quiet=True))
    arm = config.arms[-1]
    wanted = {
        "fp samples": lambda: stages.samples(None),
        "samples": lambda: stages.samples(QUANTIZED),
        "calibration": lambda: stages.calibration(arm.method.calibration),
        "ranges": lambda: stages.ranges(CALIBRATION),
        "qvd": lambda: stages.quantization(replace(arm, choice=as_choice("quantizer", QVD())), CALIBRATION, RANGES),
        "naive": lambda: stages.quantization(replace(arm, choice=as_choice("quantizer", Naive())), CALIBRATION, RANGES),
        "sqnr": lambda: stages.step_sqnr(QUANTIZED),
    }
    found = {}
    for name, fetch in wanted.items():
        with pytest.raises(NotStoredError) as missing:
            fetch()
        found[name] = str(missing.value)
    return found


SAMPLING = {"fp samples", "samples", "calibration", "sqnr"}
CHANGES = {
    "a comment": ("qvd/models/modelscope.py", "", "\n# a comment", set()),
    "a local variable": ("qvd/models/unets.py", "sinusoid", "wave", set()),
    "a constant of the model": ("qvd/models/modelscope.py", "340_000_000", "350_000_000", {*SAMPLING, "qvd", "naive"}),
    "the anatomy": ("qvd/graph/anatomy.py", "num_frames", "frames", {*SAMPLING, "qvd", "naive"}),
    "another model": ("qvd/models/latte.py", "text_parameters", "parameters", set()),
    "the noise": ("qvd/models/noise.py", '"evaluation": 2', '"evaluation": 3', SAMPLING),
    "the dial of difficulty": ("qvd/models/difficulty.py", "1e-12", "1e-11", set()),
    "SCRI": ("qvd/algorithms/scri/search.py", "IDENTITY", "IDENTITY_", {"qvd"}),
    "a default of AdaRound": ("qvd/options/reconstruction.py", "beta_start", "beta", {"qvd", "naive"}),
    "a baseline": ("baselines/naive.py", '"embedder"', '"embedding"', {"naive"}),
    "execution": ("qvd/backends/simulated.py", "round_", "floor_", {"samples", "sqnr", "qvd", "naive"}),
    "a metric": ("metrics/fidelity.py", "10", "20", {"sqnr"}),
    "the store": ("qvd/store/artifacts.py", "_explain", "_tell", set()),
}


@pytest.mark.parametrize(("path", "old", "new", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_change_makes_old_what_it_may_change(repository, config, before, path, old, new, expected):
    text = (ROOT / path).read_text()
    assert old in text
    repository.write(path, text.replace(old, new) if old else text + new)
    after = keys(config)
    assert {name for name in before if before[name] != after[name]} == expected


@pytest.mark.parametrize("name", ["tiny_modelscope", "tiny_latte", "tiny_animatediff", "tiny_latte_cc"])
def test_fp_samples_depend_on_no_quantizer(name):
    model = compose_run_config([f"model={name}"]).model
    for dialled in (model, replace(model, disparity=8.0)):
        reached = set(reached_modules(*stage_code.sampling(dialled, None)))
        assert type(model).__module__ in reached
        assert ("qvd.models.difficulty" in reached) == dialled.dialled
        assert not [module for module in reached if module.startswith(("qvd.methods", "baselines", "experiments"))]
        rooms = {module.split(".")[1] for module in reached if module.startswith("qvd.")}
        assert not rooms & {"algorithms", "backends", "calibration"}


def test_every_entry_is_a_module(config):
    entries = {
        *stage_code.sqnr(config.model, config.backend),
        *stage_code.calibration(replace(config.model, disparity=8.0)),
        *stage_code.quantization(config.arms[-1].method, config.model),
        *(*stage_code.RANGES, *stage_code.FP_COST, *stage_code.metrics(), *stage_code.FIGURES),
        *("metrics.extractors.base", "metrics.videos", "experiments.config.reference"),
    }
    for entry in entries:
        assert entry in reached_modules(entry)
