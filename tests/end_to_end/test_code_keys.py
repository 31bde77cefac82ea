"""A stage's key knows the source of all that the stage runs, or results would outlive changes of it."""

import ast
import inspect
import sys
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from tests.end_to_end.names import Evaluator, Stages, compose_run_config
from tests.end_to_end.stage_keys import KeyStore, stage_keys

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("qvd", "baselines", "metrics")
# Keep results or show how far they are, and say what is a value in the key itself.
APART = {"qvd/store.py", "qvd/memory.py", "qvd/quant/progress.py", "qvd/bits.py", "qvd/data/base.py"}
# What qvd/models tells quantization, and the dial of difficulty, which a model that is not dialled does not need.
UNDIALLED = {"samples": ("qvd/quant/", "qvd/calibration"), "calibration": ("qvd/quant/",), "sqnr": ("qvd/calibration",)}
METHODS = ("naive", "ptq4dm", "qdiffusion", "tfmq", "smoothquant", "vidit_q", "qvd")


@cache
def imported(path):
    """Files of the project that a file imports anywhere but for annotations."""
    tree = ast.parse(path.read_text())
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    guarded = {id(node) for block in blocks for node in ast.walk(block)}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in guarded:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and id(node) not in guarded:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {ROOT / f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in ROOMS}
    return {str(file.relative_to(ROOT)) for file in files if file.exists()}


def files(names):
    found = (([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py")) for name in names)
    return {str(path.relative_to(ROOT)) for paths in found for path in paths}


def unknown(names, apart=()):
    """Files that those of a stage's code lead to, and that are not among them."""
    known = files(names)
    waiting, seen = [name for name in known if name.split("/")[0] in ROOMS], set(known)
    while waiting:
        for name in imported(ROOT / waiting.pop()) - seen - APART:
            seen.add(name)
            if not name.startswith(tuple(apart)):
                waiting.append(name)
    return sorted(name for name in seen - known if not name.startswith(tuple(apart)))


def written_in(method):
    """The files of a method's class and of those that it refines."""
    sources = {Path(inspect.getfile(cls)) for cls in type(method).__mro__ if cls.__module__.split(".")[0] in ROOMS}
    return {str(path.relative_to(ROOT)) for path in sources}


@pytest.mark.parametrize("quantizer", METHODS)
@pytest.mark.parametrize("disparity", [1.0, 4.0])
def test_the_code_of_every_stage_is_closed(monkeypatch, quantizer, disparity):
    for room in (Stages, Evaluator):
        monkeypatch.setattr(sys.modules[room.__module__], "source_digest", lambda *names: list(names))
    words = [f"quantizer={quantizer}", "quantizer.calibration.num_samples=1", f"model.disparity={disparity}"]
    config, store = compose_run_config(words), KeyStore()
    stage_keys(replace(config, n_videos=8, arms=(replace(config.arms[0], n_videos=8),)), store)
    for names in store.code["quantization"]:
        assert files(chain(*names)) >= written_in(config.arms[0].method)
    for stage, codes in store.code.items():
        apart = UNDIALLED.get(stage, ()) if disparity == 1 else ()
        for own, dial in codes:
            assert not unknown([*own, *dial], apart), stage
