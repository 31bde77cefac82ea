"""Files whole or not at all: on disk before they are named, refused where there is no room, tried again, told once."""

import errno
import os
import shutil
from collections import namedtuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qvd.store import files
from qvd.store.artifacts import Store
from qvd.store.files import DamagedError, StoreError, read_bytes, sealed, unsealed, write_atomically
from qvd.store.tensors import open_tensors
from tests.torture.faults import Calls, watching

Usage = namedtuple("Usage", "total used free")


def test_a_file_and_its_folder_are_on_disk_before_it_counts(tmp_path):
    calls = Calls(tmp_path)
    with watching(calls):
        write_atomically(tmp_path / "a", b"content")
    synced = [name for name in calls.made if name in ("write", "fsync", "replace")]
    assert synced == ["write", "fsync", "replace", "fsync"]
    assert (tmp_path / "a").read_bytes() == b"content" and os.listdir(tmp_path) == ["a"]


def test_no_large_write_begins_without_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9 - 2**20, 2**20))
    calls = Calls(tmp_path)
    with watching(calls), pytest.raises(StoreError) as refused:
        write_atomically(tmp_path / "a", bytes(3 * 2**20))
    place = f"{tmp_path}: no room on this disk: 3.0 MiB needed, 1.0 MiB free"
    assert str(refused.value) == f"{place}; make room, or name another folder"
    assert "write" not in calls.made
    write_atomically(tmp_path / "a", bytes(2**20))


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a").write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"no room on this disk: 4 B needed, .* free; make room"):
        write_atomically(tmp_path / "a", b"1234")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"before"


@pytest.mark.parametrize(("failures", "told"), [(1, False), (3, False), (4, True)])
def test_what_passes_is_tried_again_and_then_told(tmp_path, monkeypatch, failures, told):
    (tmp_path / "a").write_bytes(b"content")
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))
    left = [errno.ESTALE] * failures

    def stale(*arguments):
        if left:
            raise OSError(left.pop(), "Stale file handle")
        return open(*arguments)

    monkeypatch.setattr(files, "open", stale, raising=False)
    if told:
        with pytest.raises(StoreError, match=r"a: cannot be read: Stale file handle .nothing was set aside") as error:
            read_bytes(tmp_path / "a")
        assert len(str(error.value).splitlines()) == 1
    else:
        assert read_bytes(tmp_path / "a") == b"content"


def test_a_seal_finds_every_flipped_bit():
    content = sealed(b"some data")
    assert unsealed(content) == b"some data"
    for position in range(len(content)):
        with pytest.raises(DamagedError):
            unsealed(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])


def test_errors_of_safetensors_name_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match=r"a.safetensors: there is no such file"), open_tensors(path):
        pass
    save_file({"x": torch.ones(3)}, path)
    with open_tensors(path) as content:
        assert torch.equal(content.get_tensor("x"), torch.ones(3))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"a.safetensors: no whole safetensors file"), open_tensors(path):
        pass


def test_a_file_that_changes_while_a_computation_reads_it_is_named(tmp_path):
    store = Store(tmp_path)
    located = store.fetch_file("samples", {}, lambda: ({"x": torch.ones(3)}, {}))

    def compute():
        located.path.write_bytes(b"x" * 40)
        return {"x": safe_open(located.path, "pt").get_tensor("x")}, {}

    with pytest.raises(StoreError, match=f"^{located.path}: changed or deleted while it was in use"):
        store.fetch("features", {}, compute)
    with pytest.warns(UserWarning, match="damaged store file"):
        again = store.fetch_file("samples", {}, lambda: ({"x": torch.ones(3)}, {}))
    assert torch.equal(load_file(again.path)["x"], torch.ones(3))


def test_the_ledger_has_a_line_for_every_artifact_handed_out(tmp_path):
    made = Store(tmp_path / "store").fetch("a", {"seed": 0}, lambda: ({}, {}))
    store = Store(tmp_path / "store", ledger=tmp_path / "ledger")
    keys = [store.fetch("a", {"seed": seed}, lambda: ({}, {})).key for seed in (0, 1, 0)]
    assert keys[0] == made.key
    assert (tmp_path / "ledger").read_text().splitlines() == [f"a {key}" for key in keys[:2]]
