import json
import multiprocessing
import os
import time
import warnings

import pytest
import torch
from safetensors.torch import load_file

from qvd.store.artifacts import CodeChangedWarning, NotStoredError, Store
from qvd.store.digest import fingerprint
from qvd.store.source import LIBRARIES


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_computes_once_and_returns_the_same_tensors(store):
    calls = []

    def compute():
        calls.append(1)
        return {"x": torch.arange(6).view(2, 3)}, {"note": "hello"}

    first = store.fetch("samples", {"seed": 0}, compute)
    second = store.fetch("samples", {"seed": 0}, compute)
    assert len(calls) == 1
    assert torch.equal(first.tensors["x"], second.tensors["x"])
    assert second.metadata == {"note": "hello"}
    assert second.seconds == first.seconds
    assert second.peak_memory_bytes > 0


def test_other_inputs_or_another_stage_are_other_artifacts(store):
    keys = {
        store.fetch(stage, inputs, lambda: ({}, {})).key
        for stage, inputs in (("a", {"seed": 0}), ("a", {"seed": 1}), ("b", {"seed": 0}))
    }
    assert len(keys) == 3


def test_a_failed_computation_leaves_nothing(store):
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        store.fetch("a", {}, fail)
    assert not store.contains("a", {})
    assert store.fetch("a", {}, lambda: ({}, {"ok": 1})).metadata == {"ok": 1}


@pytest.mark.parametrize("damage", ["flip", "truncate", "garble_sidecar"])
def test_damage_is_set_aside_and_recomputed(store, damage):
    artifact = store.fetch("a", {}, lambda: ({"x": torch.ones(100)}, {}))
    sidecar = store.root / "a" / f"{artifact.key}.json"
    data = sidecar.with_suffix(".safetensors")
    content = data.read_bytes()
    if damage == "flip":
        data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncate":
        data.write_bytes(content[: len(content) // 2])
    else:
        sidecar.write_text("{")
    with pytest.warns(UserWarning, match="damaged store file"):
        again = store.fetch("a", {}, lambda: ({"x": torch.ones(100)}, {}))
    assert torch.equal(again.tensors["x"], torch.ones(100))
    assert list((store.root / "a").glob("*.damaged"))


def test_a_large_artifact_stays_on_disk(store):
    calls = []

    def compute():
        calls.append(1)
        return {"x": torch.arange(6.0)}, {"note": "hello"}

    located = store.fetch_file("a", {}, compute)
    assert store.fetch_file("a", {}, compute) == located and len(calls) == 1
    assert torch.equal(load_file(located.path)["x"], torch.arange(6.0))
    whole = store.fetch("a", {}, compute)
    assert (whole.key, whole.metadata, whole.seconds) == (located.key, located.metadata, located.seconds)


def test_a_damaged_file_is_found_before_it_is_read(store):
    located = store.fetch_file("a", {}, lambda: ({"x": torch.ones(100)}, {}))
    content = located.path.read_bytes()
    located.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match="damaged store file"):
        again = Store(store.root).fetch_file("a", {}, lambda: ({"x": torch.ones(100)}, {}))
    assert again.path.read_bytes() == content


def _count(root, log):
    def compute():
        with open(log, "a") as handle:
            handle.write("x")
        time.sleep(0.3)
        return {}, {"pid": os.getpid()}

    Store(root).fetch("a", {}, compute)


@pytest.mark.full
def test_two_processes_compute_once(store, tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(store.root, log)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert log.read_text() == "x"


def test_the_sidecar_tells_what_produced_it(store):
    artifact = store.fetch("a", {"seed": 3}, lambda: ({}, {}))
    record = json.loads((store.root / "a" / f"{artifact.key}.json").read_text())
    assert record["inputs"] == {"seed": 3}


def test_fingerprint_ignores_key_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_code_is_an_input_and_the_sidecar_tells_its_modules(store, tree):
    tree.write("a.py", "import b\n")
    tree.write("b.py", "x = 1\n")
    first = store.fetch("stage", {"seed": 3}, lambda: ({}, {}), ["a"])
    record = json.loads((store.root / "stage" / f"{first.key}.json").read_text())
    assert set(record["inputs"]) == {"seed", "code"} and set(record["code"]) == {"a", "b", *LIBRARIES}
    assert store.contains("stage", {"seed": 3}, ["a"]) and not store.contains("stage", {"seed": 3})
    tree.write("b.py", "x = 1  # as ever\n")
    assert store.contains("stage", {"seed": 3}, ["a"])
    tree.write("b.py", "x = 2\n")
    assert not store.contains("stage", {"seed": 3}, ["a"])


def test_the_store_says_once_for_a_stage_which_code_has_changed(store, tree):
    def fetch(stage, seed, root=store.root, **options):
        return Store(root, **options).fetch(stage, {"seed": seed}, lambda: ({}, {}), ["a"])

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of what was never made, or is there
        for change in ("", "# a comment\n"):
            tree.write("a.py", "import b\n" + change)
            tree.write("b.py", "x = 1\n")
            for seed in (0, 1):
                fetch("stage", seed)
    tree.write("b.py", "x = 2\n")
    with (
        pytest.warns(CodeChangedWarning, match="^stage: to be computed anew after changes in b$"),
        pytest.raises(NotStoredError),
    ):
        fetch("stage", 0, read_only=True)
    again = Store(store.root)
    with pytest.warns(CodeChangedWarning) as said:
        for seed in (0, 1, 2):
            again.fetch("stage", {"seed": seed}, lambda: ({}, {}), ["a"])
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree.write("b.py", "x = 1\n")  # back again: the first artifacts are still there
        fetch("stage", 0)
        fetch("other", 0)


def test_many_changed_modules_are_counted(store, tree):
    for step in range(2):
        tree.write("a.py", "import " + ", ".join(f"m{i}" for i in range(9)))
        for i in range(9):
            tree.write(f"m{i}.py", f"x = {step}\n")
        if step == 0:
            store.fetch("stage", {}, lambda: ({}, {}), ["a"])
    with pytest.warns(CodeChangedWarning, match="in m0, m1, m2, m3, m4, m5 and 3 more$"):
        store.fetch("stage", {}, lambda: ({}, {}), ["a"])
