"""Kinds of damage to a store, each done to a store of two artifacts, and what reading it then comes to."""

import builtins
import errno
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from qvd.store.artifacts import Artifact, ArtifactFile, Store

SEEDS = (0, 1)
NOBODY = 65534
RECOMPUTED, ERROR, FINE = "recomputed", "one error", "fine"


def compute(seed):
    return {"x": torch.arange(200) + seed, "empty": torch.zeros(0)}, {"psnr": 40.5 + seed, "note": ["a", None]}


@dataclass(frozen=True)
class Victim:
    """The first artifact of a store, and the second, which is left whole."""

    sidecar: Path
    other: Path

    @property
    def tensors(self):
        return self.sidecar.with_suffix(".safetensors")

    @property
    def record(self):
        return json.loads(self.sidecar.read_bytes())

    def edit(self, **values):
        self.sidecar.write_text(json.dumps({**self.record, **values}))

    def without(self, name):
        record = self.record
        del record[name]
        self.sidecar.write_text(json.dumps(record))


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(bytes(data))


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def folder_in_place(path, filled=False):
    path.unlink()
    path.mkdir()
    if filled:
        (path / "inside").write_text("x")


def link(path, target):
    path.unlink()
    path.symlink_to(target)


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def both(v, action):
    action(v.sidecar)
    action(v.tensors)


def foreign_checksum(v):
    """The second artifact's tensors, and the checksum to go with them."""
    shutil.copy(v.other.with_suffix(".safetensors"), v.tensors)
    v.edit(sha256=json.loads(v.other.read_bytes())["sha256"])


def other_pair(v):
    shutil.copy(v.other.with_suffix(".safetensors"), v.tensors)
    shutil.copy(v.other, v.sidecar)


def no_safetensors(v):
    """Not the format, with a checksum that fits."""
    v.tensors.write_bytes(b"x" * 64)
    v.edit(sha256=hashlib.sha256(b"x" * 64).hexdigest())


def half_published(v):
    v.tensors.with_name(f"{v.tensors.name}.99999.partial").write_bytes(b"x" * 10)
    v.sidecar.unlink()


DAMAGE: dict[str, tuple[Callable[[Victim], object], str]] = {
    "tensors: a bit of the header": (lambda v: flip(v.tensors, 12), RECOMPUTED),
    "tensors: a bit of the header's length": (lambda v: flip(v.tensors, 0), RECOMPUTED),
    "tensors: a bit of the body": (lambda v: flip(v.tensors, -3), RECOMPUTED),
    "tensors: cut in the body": (lambda v: cut(v.tensors, 0.9), RECOMPUTED),
    "tensors: cut in the header": (lambda v: cut(v.tensors, 0.01), RECOMPUTED),
    "tensors: empty": (lambda v: cut(v.tensors, 0), RECOMPUTED),
    "tensors: bytes appended": (lambda v: v.tensors.write_bytes(v.tensors.read_bytes() + b"x"), RECOMPUTED),
    "tensors: zeros": (lambda v: v.tensors.write_bytes(bytes(v.tensors.stat().st_size)), RECOMPUTED),
    "tensors: missing": (lambda v: v.tensors.unlink(), RECOMPUTED),
    "tensors: an empty folder": (lambda v: folder_in_place(v.tensors), RECOMPUTED),
    "tensors: a filled folder": (lambda v: folder_in_place(v.tensors, filled=True), RECOMPUTED),
    "tensors: a link to nowhere": (lambda v: link(v.tensors, "nowhere"), RECOMPUTED),
    "tensors: a link to itself": (lambda v: link(v.tensors, v.tensors.name), RECOMPUTED),
    "tensors: a pipe": (lambda v: fifo(v.tensors), RECOMPUTED),
    "tensors: another key's": (lambda v: shutil.copy(v.other.with_suffix(".safetensors"), v.tensors), RECOMPUTED),
    "tensors: another key's, checksum edited": (foreign_checksum, RECOMPUTED),
    "tensors: not the format, checksum edited": (no_safetensors, RECOMPUTED),
    "sidecar: empty": (lambda v: cut(v.sidecar, 0), RECOMPUTED),
    "sidecar: cut": (lambda v: cut(v.sidecar, 0.5), RECOMPUTED),
    "sidecar: zeros": (lambda v: v.sidecar.write_bytes(bytes(v.sidecar.stat().st_size)), RECOMPUTED),
    "sidecar: not UTF-8": (lambda v: v.sidecar.write_bytes(b"\xff\xfe{}"), RECOMPUTED),
    "sidecar: a list": (lambda v: v.sidecar.write_text("[]"), RECOMPUTED),
    "sidecar: a number": (lambda v: v.sidecar.write_text("3"), RECOMPUTED),
    "sidecar: nested without end": (lambda v: v.sidecar.write_text("[" * 100_000), RECOMPUTED),
    "sidecar: missing": (lambda v: v.sidecar.unlink(), RECOMPUTED),
    "sidecar: a folder": (lambda v: folder_in_place(v.sidecar), RECOMPUTED),
    "sidecar: a filled folder": (lambda v: folder_in_place(v.sidecar, filled=True), RECOMPUTED),
    "sidecar: a pipe": (lambda v: fifo(v.sidecar), RECOMPUTED),
    "sidecar: another key's": (lambda v: shutil.copy(v.other, v.sidecar), RECOMPUTED),
    "sidecar: a result edited": (lambda v: v.edit(metadata={**v.record["metadata"], "psnr": 99.0}), RECOMPUTED),
    "sidecar: a bit of a result": (
        lambda v: v.sidecar.write_bytes(v.sidecar.read_bytes().replace(b"40.5", b"41.5")),
        RECOMPUTED,
    ),
    "sidecar: seconds edited": (lambda v: v.edit(seconds=1e9), RECOMPUTED),
    "sidecar: seconds a word": (lambda v: v.edit(seconds="long"), RECOMPUTED),
    "sidecar: memory negative": (lambda v: v.edit(peak_memory_bytes=-1), RECOMPUTED),
    "sidecar: inputs edited": (lambda v: v.edit(inputs={"seed": 7}), RECOMPUTED),
    "sidecar: no metadata": (lambda v: v.without("metadata"), RECOMPUTED),
    "sidecar: no checksum": (lambda v: v.without("sha256"), RECOMPUTED),
    "sidecar: checksum a number": (lambda v: v.edit(sha256=3), RECOMPUTED),
    "pair: both empty": (lambda v: both(v, lambda path: cut(path, 0)), RECOMPUTED),
    "pair: both missing": (lambda v: both(v, Path.unlink), RECOMPUTED),
    "pair: another key's": (other_pair, RECOMPUTED),
    "pair: set aside before": (
        lambda v: (folder_in_place(v.sidecar), v.sidecar.with_name(f"{v.sidecar.name}.damaged").mkdir()),
        RECOMPUTED,
    ),
    "a killed write": (half_published, RECOMPUTED),
    "the lock: left by the dead": (lambda v: v.sidecar.with_suffix(".lock").write_text("12345"), FINE),
    "the lock: a folder": (lambda v: (v.sidecar.unlink(), folder_in_place(v.sidecar.with_suffix(".lock"))), ERROR),
    "the stage: a file": (lambda v: (shutil.rmtree(v.sidecar.parent), v.sidecar.parent.write_text("")), ERROR),
    "clock: files from the future": (lambda v: both(v, lambda path: os.utime(path, (4e9, 4e9))), FINE),
}

# What does not last: the artifact is whole, and stays; the error is told in one line.
PASSING = ("another user's files", "another user's folder", "no file descriptors", *map(errno.errorcode.get, (5, 116)))


@dataclass(frozen=True)
class Verdict:
    """What reading a damaged store came to, and whether that is right."""

    name: str
    outcome: str
    right: bool


def judge(name: str) -> Verdict:
    """Damage a fresh store, read it by both doors in forks of this process, and judge.

    Right is: the true values (computed anew or not, as the damage asks), or one error of one line; a second read is as
    good as the first, and the other artifact is untouched.
    """
    act, expected = DAMAGE[name]
    outcomes = []
    for door in ("fetch", "fetch_file"):
        with tempfile.TemporaryDirectory() as folder:
            victim = filled(Path(folder))
            act(victim)
            first, second = (in_fork(lambda d=door, f=folder: read(Path(f), d)) for _ in range(2))
            after = FINE if expected != ERROR else ERROR
            outcomes.append(first if first != expected or second == after else f"then {second}")
    wrong = [outcome for outcome in outcomes if outcome != expected]
    return Verdict(name, (wrong or outcomes)[0], not wrong)


def filled(root: Path) -> Victim:
    store = Store(root / "store")
    keys = [store.fetch("stage", {"seed": seed}, lambda seed=seed: compute(seed)).key for seed in SEEDS]
    return Victim(*(root / "store" / "stage" / f"{key}.json" for key in keys))


def read(root: Path, door: str) -> str:
    """Through `fetch` or `fetch_file`, checked against what was computed: fine, recomputed, one error, or what else."""
    computed = []

    def noting():
        computed.append(1)
        return compute(SEEDS[0])

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            artifact = getattr(Store(root / "store"), door)("stage", {"seed": SEEDS[0]}, noting)
    except (ValueError, OSError) as error:
        return ERROR if len(str(error).splitlines()) == 1 else f"error of many lines: {error}"
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {str(error)[:80]}"
    try:
        believed = is_true(artifact)
    except Exception as error:
        return f"damage handed on: {type(error).__name__}: {str(error)[:60]}"
    if not believed:
        return "wrong values believed"
    return RECOMPUTED if computed else FINE


def is_true(artifact: Artifact | ArtifactFile) -> bool:
    """Whether an artifact is the first of a store as it was computed."""
    expected, metadata = compute(SEEDS[0])
    tensors = load_file(artifact.path) if isinstance(artifact, ArtifactFile) else artifact.tensors
    plausible = 0 <= artifact.seconds < 1e6 and artifact.peak_memory_bytes >= 0
    return artifact.metadata == metadata and same(tensors, expected) and plausible


def same(tensors, expected):
    return tensors.keys() == expected.keys() and all(torch.equal(tensors[name], expected[name]) for name in expected)


def in_fork(action: Callable[[], str], seconds: float = 3.0) -> str:
    """What `action` returns in a child process; `hangs`, or how it died."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, action().encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    timer = threading.Timer(seconds, os.kill, (child, signal.SIGALRM))
    timer.start()
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "hangs" if name == "SIGALRM" else f"died of {name}"
    return answer or "traceback"


def judge_passing(name: str) -> Verdict:
    """A whole artifact that cannot be read just now: one line, and nothing is set aside or computed anew."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        victim = filled(Path(folder))
        before = {path.name: path.read_bytes() for path in victim.sidecar.parent.iterdir()}
        outcome = in_fork(lambda: unlucky(name, victim, Path(folder)))
        victim.sidecar.parent.chmod(0o755)
        for path in victim.sidecar.parent.iterdir():
            path.chmod(0o644)
        after = {path.name: path.read_bytes() for path in victim.sidecar.parent.iterdir() if path.is_file()}
        if {k: v for k, v in after.items() if k in before} != before or len(after) > len(before):
            outcome = f"changed: {sorted(after.keys() ^ before.keys())}"
        elif (again := in_fork(lambda: read(Path(folder), "fetch"))) != FINE:
            outcome = f"then {again}"
    return Verdict(name, outcome, outcome == ERROR)


def unlucky(name: str, victim: Victim, root: Path) -> str:
    if name.startswith("another user's"):
        victim.tensors.chmod(0)
        victim.sidecar.parent.chmod(0 if name.endswith("folder") else 0o777)
        if os.geteuid() == 0:  # whom no permission stops
            os.setgroups([])
            os.setuid(NOBODY)
        return read(root, "fetch")
    if name == "no file descriptors":
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        return read(root, "fetch")
    return failing_reads(getattr(errno, name), root)


def failing_reads(number: int, root: Path) -> str:
    """Every read of a file's content in the store fails with an errno."""
    original = io.open

    def broken(file, *arguments, **options):
        if str(file).endswith((".json", ".safetensors")):
            raise OSError(number, os.strerror(number), str(file))
        return original(file, *arguments, **options)

    io.open = builtins.open = broken
    return read(root, "fetch")
