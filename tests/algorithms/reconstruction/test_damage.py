"""An unfinished reconstruction is gone on with only where what it left is what it wrote."""

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from qvd.algorithms.reconstruction import engine
from qvd.algorithms.reconstruction.activations import CachedActivations
from qvd.algorithms.reconstruction.engine import Task, reconstruct_rounding
from qvd.algorithms.reconstruction.unit_store import UnitStore
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.units import Reconstruction
from qvd.store.files import DamagedError, StoreError
from tests.algorithms.reconstruction.nets import ORDER, make_calibration, make_net, nearest_weights, units

ROOT = Path(__file__).parents[3]
SETTINGS = AdaRoundSettings(iterations=2, batch_size=4)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


RECORD = {
    "a bit": flip,
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "another unit's": lambda path: path.write_bytes(path.with_name("other.record").read_bytes()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", RECORD.values(), ids=RECORD)
def test_a_damaged_record_is_none(tmp_path, damage):
    store = UnitStore(tmp_path)
    for key in ("phase/unit", "phase/other"):
        store.write(key, {"x": torch.arange(9)}, {"key": key, "values": float("nan")})
    tensors, values = store.read("phase/unit")
    assert torch.equal(tensors["x"], torch.arange(9)) and values["key"] == "phase/unit"
    damage(tmp_path / "phase" / "unit.record")
    assert store.read("phase/unit") is None
    assert store.read("phase/other") is not None


CACHE = {
    "a bit": lambda folder: flip(folder / "0.bin"),
    "cut": lambda folder: cut(folder / "0.bin"),
    "missing": lambda folder: (folder / "0.bin").unlink(),
    "layout cut": lambda folder: cut(folder / "layout"),
    "layout missing": lambda folder: (folder / "layout").unlink(),
}


@pytest.mark.parametrize("damage", CACHE.values(), ids=CACHE)
def test_damaged_activations_are_not_opened(tmp_path, damage):
    value = torch.randn(4, 300)
    cache = CachedActivations.like(tmp_path / "cache", 4, value, 4)
    cache.put(0, value)
    cache.seal()
    opened = CachedActivations.open(tmp_path / "cache")
    assert torch.equal(opened.take(range(4)), value.bfloat16().float())
    damage(tmp_path / "cache")
    with pytest.raises(DamagedError):
        CachedActivations.open(tmp_path / "cache")


class _Killed(Exception):
    pass


@pytest.mark.parametrize("what", ["record", "activations", "nothing"])
def test_after_damage_the_work_ends_as_if_it_had_not_been_interrupted(tmp_path, monkeypatch, what):
    net = make_net()

    def run(checkpoint):
        task = Task(net, make_calibration(), units(net, Reconstruction.block), checkpoint, lambda items, text: items)
        return reconstruct_rounding(task, nearest_weights(net, 3), SETTINGS)

    learned, original = [], engine._learn_unit_rounding

    def until_the_fourth(settings, unit, *rest):
        if len(learned) == 3:
            raise _Killed
        learned.append(unit)
        return original(settings, unit, *rest)

    monkeypatch.setattr(engine, "_learn_unit_rounding", until_the_fourth)
    store = UnitStore(tmp_path)
    with pytest.raises(_Killed):
        run(store)
    monkeypatch.setattr(engine, "_learn_unit_rounding", lambda *a: (learned.append(a[1]), original(*a))[1])
    del learned[:]
    if what == "record":
        flip(tmp_path / "rounding" / f"{ORDER[1]}.record")
    elif what == "activations":
        flip(next((tmp_path / "rounding-fp").glob("*/0.bin")))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        resumed = run(store)
    assert len(learned) == len(ORDER) - {"record": 1, "activations": 0, "nothing": 3}[what]
    assert ["starts anew" in str(warning.message) for warning in said] == [True] * (what == "activations")
    monkeypatch.undo()
    for name, layer in run(None).layers.items():
        assert torch.equal(resumed.layers[name].weight.codes, layer.weight.codes)


def test_room_for_activations_is_taken_before_they_are_mapped(tmp_path, monkeypatch):
    """A sparse file's map ends the process by SIGBUS where the disk fills up."""
    value = torch.zeros(4, 100_000)
    cache = CachedActivations.like(tmp_path / "cache", 4, value, 4)
    assert (cache.folder / "0.bin").stat().st_blocks * 512 >= 800_000

    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"no room on this disk: 781.2 KiB needed, .* free"):
        CachedActivations.like(tmp_path / "other", 4, value, 4)
    assert not list((tmp_path / "other").iterdir())


FULL_DISK = """
import sys
from pathlib import Path
import torch
from qvd.algorithms.reconstruction.activations import CachedActivations
from qvd.store.files import StoreError

value = torch.ones(4, 1_000_000)
try:
    cache = CachedActivations.like(Path(sys.argv[1]) / "cache", 4, value, 4)
    cache.put(0, value)
except StoreError as error:
    print(error)
"""


@pytest.mark.full
def test_a_really_full_disk_is_one_line(tmp_path):
    mounted = f"mount -t tmpfs -o size=2m tmpfs '{tmp_path}' && exec '{sys.executable}' -c \"$1\" '{tmp_path}'"
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh", FULL_DISK]
    if subprocess.run([*words[:4], "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended
    assert ended.stdout == f"{tmp_path}/cache: no room on this disk: 7.6 MiB needed, 2.0 MiB free; " + (
        "make room, or name another folder\n"
    )
