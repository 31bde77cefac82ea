"""The store against a plain dict: any order of asking, damaging, losing, cleaning and reopening."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from safetensors.torch import load_file

from qvd.store import files
from qvd.store.artifacts import NotStoredError, Store
from qvd.store.cleaning import plan, remove
from qvd.store.files import StoreError
from qvd.store.inventory import LEDGER, needed, take_inventory
from qvd.store.owners import Owner
from qvd.store.recipes import Recipe
from tests.torture.damage import cut, flip

STAGES = st.sampled_from(["samples", "ranges"])
SEEDS = st.integers(0, 2)
DAMAGES = {
    "flip": lambda path: flip(path, path.stat().st_size // 2),
    "cut": lambda path: cut(path, 0.5),
    "empty": lambda path: cut(path, 0),
}


def value(stage, seed, version):
    """What a computation makes: it is never made twice the same, so that what is handed out tells when it was made."""
    return {"x": torch.full((7,), seed * 1000 + version)}, {"stage": stage, "version": version}


class StoreMachine(RuleBasedStateMachine):
    """`made` is the model: (stage, seed) → the version that the store must hand out, while nothing damages it."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.root, self.ledger = self.folder / "store", self.folder / LEDGER
        self.made: dict[tuple[str, int], int] = {}
        self.asked: set[tuple[str, int]] = set()
        self.version = 0
        self.store = Store(self.root, ledger=self.ledger)

    def teardown(self):
        shutil.rmtree(self.folder)

    def place(self, which):
        return Recipe(which[0], {"seed": which[1]}, ()).place(self.root)

    @rule(stage=STAGES, seed=SEEDS, door=st.sampled_from(["fetch", "fetch_file"]))
    def ask(self, stage, seed, door):
        which, computed = (stage, seed), []

        def compute():
            computed.append(self.version)
            return value(stage, seed, self.version)

        self.version += 1
        artifact = getattr(self.store, door)(stage, {"seed": seed}, compute)
        assert bool(computed) == (which not in self.made)
        tensors, metadata = value(stage, seed, self.made.setdefault(which, self.version))
        found = load_file(artifact.path) if door == "fetch_file" else artifact.tensors
        assert artifact.metadata == metadata and torch.equal(found["x"], tensors["x"])
        self.asked.add(which)

    @rule(stage=STAGES, seed=SEEDS)
    def ask_without_computing(self, stage, seed):
        before = sorted(self.root.rglob("*")) if self.root.exists() else []
        store = Store(self.root, read_only=True)
        if (stage, seed) in self.made:
            assert store.fetch(stage, {"seed": seed}, pytest.fail).metadata["version"] == self.made[stage, seed]
        else:
            with pytest.raises(NotStoredError):
                store.fetch(stage, {"seed": seed}, pytest.fail)
        assert before == (sorted(self.root.rglob("*")) if self.root.exists() else [])

    @precondition(lambda self: self.made)
    @rule(data=st.data(), how=st.sampled_from([*DAMAGES]), kind=st.sampled_from(["sidecar", "tensors"]))
    def damage(self, data, how, kind):
        which = data.draw(st.sampled_from(sorted(self.made)))
        DAMAGES[how](getattr(self.place(which), kind))
        del self.made[which]

    @precondition(lambda self: self.made)
    @rule(data=st.data(), kind=st.sampled_from(["sidecar", "tensors"]))
    def lose(self, data, kind):
        which = data.draw(st.sampled_from(sorted(self.made)))
        getattr(self.place(which), kind).unlink()
        del self.made[which]

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def cannot_be_read_just_now(self, data):
        stage, seed = data.draw(st.sampled_from(sorted(self.made)))

        def no(path, *arguments, **options):
            raise PermissionError(13, "Permission denied", str(path))

        with pytest.MonkeyPatch.context() as patch, pytest.raises(StoreError, match="Permission denied"):
            patch.setattr(files, "PAUSES", ())
            patch.setattr(files, "open", no, raising=False)
            Store(self.root).fetch(stage, {"seed": seed}, pytest.fail)

    @rule(stage=STAGES)
    def a_computation_fails(self, stage):
        with pytest.raises(ZeroDivisionError):
            self.store.fetch(stage, {"seed": 99}, lambda: 1 / 0)

    @rule(alive=st.booleans(), ahead=st.sampled_from([0, -3 * 24 * 3600, 10 * 365 * 24 * 3600]))
    def a_write_is_under_way_or_was_killed(self, alive, ahead):
        """Whatever the clock says."""
        self.root.mkdir(exist_ok=True)
        me = Owner.current()
        owner = me if alive else Owner(me.host, me.machine, me.pid, me.started - 1)
        path = self.root / f"{'0' * 64}.json.{owner}.{self.version:08x}.partial"
        path.write_text("x")
        os.utime(path, (path.stat().st_mtime + ahead,) * 2)
        if not alive:
            self.reopen()
            self.store.fetch("other", {"version": self.version, "ahead": ahead, "n": os.urandom(4).hex()}, self.nothing)
            assert not path.exists()
        else:
            self.reopen()
            self.store.fetch("other", {"version": self.version, "ahead": ahead, "n": os.urandom(4).hex()}, self.nothing)
            path.unlink()

    @staticmethod
    def nothing():
        return {}, {}

    @rule()
    def reopen(self):
        self.store = Store(self.root, ledger=self.ledger)

    @precondition(lambda self: self.root.exists())
    @rule(delete=st.booleans(), keep=st.booleans())
    def clean(self, delete, keep):
        kept = needed(self.ledger, self.root) if keep and self.ledger.exists() else None
        before = sorted(self.root.rglob("*"))
        removals = plan(self.root, kept, older_than=-10.0)
        if not delete:
            assert sorted(self.root.rglob("*")) == before
            return
        assert all(map(remove, removals))
        after = take_inventory(self.root)
        assert not (after.halves or after.damaged or after.abandoned or after.locks)

    @invariant()
    def what_is_there_is_what_was_made(self):
        for which in self.made:
            assert self.place(which).is_there
        if self.root.exists():
            assert not list(self.root.rglob("*.partial"))


def test_no_order_of_events_makes_the_store_hand_out_anything_else():
    steps = settings(settings(), stateful_step_count=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_state_machine_as_test(StoreMachine, settings=steps)
