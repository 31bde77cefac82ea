"""Which small errors no test notices: `python -m tests.mutation [--sample N] [FILE …]`.

Every sampled mutant runs against the default tier's tests of its room, those of its line first. Results are JSON lines,
so that a stopped run goes on; the survivors are printed at the end.

mutmut 3 leaves functions with decorators, class bodies and module constants alone, where most of this maths stands
(`@torch.no_grad()`, dataclass fields), has no sample and starts with a run of the whole suite; cosmic-ray starts a new
interpreter for each mutant, which imports torch and diffusers for longer than most tests take.
"""

import argparse
import json
import random
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import tests.environment  # noqa: F401  (tests run in forks of this process)
from tests.mutation.operators import Mutation, mutations
from tests.mutation.process import ROOT, Baseline, first_failure, measure, warm

RECONSTRUCTION = ("tests/algorithms/reconstruction/test_layer.py", "tests/algorithms/reconstruction/test_block.py")
# Room → where its tests are; the mirrored folder first.
TESTS = {
    "qvd/numerics": ("tests/numerics", "tests/spec", "tests/backends", "tests/algorithms/htdq", *RECONSTRUCTION),
    "qvd/spec": ("tests/spec", "tests/backends", "tests/options", "tests/algorithms/test_layerwise.py"),
    "qvd/methods": ("tests/methods", "tests/options"),
    "baselines": ("tests/baselines",),
    "metrics": ("tests/metrics",),
}
PURE_METRICS = ("fidelity", "frechet", "inception", "intervals", "kernel", "lpips", "temporal")
DEFAULT = ("qvd/numerics", "qvd/spec", "qvd/methods", "baselines", *(f"metrics/{name}.py" for name in PURE_METRICS))
LEFT_OUT = {"baselines/options.py"}  # defaults, which conf/ overrides


def files_of(targets: list[str]) -> dict[str, list[str]]:
    """Room → files, of files and folders."""
    paths = [path for target in targets for path in ([ROOT / target, *sorted((ROOT / target).rglob("*.py"))])]
    files = [str(path.relative_to(ROOT)) for path in paths if path.is_file()]
    return {room: [f for f in files if f.startswith(f"{room}/") and f not in LEFT_OUT] for room in TESTS}


def key(file: str, source: str, mutation: Mutation) -> str:
    return sha256(f"{file} {source} {mutation}".encode()).hexdigest()[:16]


def sample(file: str, count: int | None, seed: int) -> list[Mutation]:
    found = mutations((ROOT / file).read_text())
    if count is None or count >= len(found):
        return found
    return sorted(random.Random(f"{seed} {file}").sample(found, count), key=lambda m: m.start)


def judge(file: str, mutation: Mutation, baseline: Baseline) -> dict:
    source = (ROOT / file).read_text()
    start = time.perf_counter()
    failed = first_failure(file, mutation.apply(source), mutation.line, baseline)
    return {
        "key": key(file, source, mutation),
        "file": file,
        "line": mutation.line,
        "operator": mutation.operator,
        "old": source.encode()[mutation.start : mutation.end].decode(),
        "new": mutation.text,
        "failed": failed,
        "seconds": round(time.perf_counter() - start, 1),
    }


def read(results: Path) -> dict[str, dict]:
    lines = results.read_text().splitlines() if results.exists() else []
    return {record["key"]: record for record in map(json.loads, lines)}


def report(records: list[dict]) -> None:
    """Score by module, then the survivors."""
    total, noticed = (Counter(record["file"] for record in kept) for kept in (records, filter(_noticed, records)))
    for file in sorted(total):
        print(f"{file:40} {noticed[file]:4} of {total[file]:4}  {noticed[file] / total[file]:7.1%}")
    print(f"{'all':40} {noticed.total():4} of {total.total():4}  {noticed.total() / total.total():7.1%}\n")
    for record in records:
        if not _noticed(record):
            print(f"{record['file']}:{record['line']}: {record['operator']}\n  - {record['old']}\n  + {record['new']}")


def _noticed(record: dict) -> bool:
    return record["failed"] is not None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=DEFAULT, help="files or folders")
    parser.add_argument("--sample", type=int, help="mutants per file; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=ROOT / "outputs" / "mutation.jsonl")
    parser.add_argument("--again", action="store_true", help="judge the survivors in the results once more")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    known, records = read(options.results), []
    for room, files in files_of(options.targets).items():
        baseline = None
        for file in files:
            for mutation in sample(file, options.sample, options.seed):
                record = known.get(key(file, (ROOT / file).read_text(), mutation))
                if record is None or (options.again and not _noticed(record)):
                    if baseline is None:
                        baseline = measure(room, TESTS[room])
                        warm(baseline.libraries)
                    record = judge(file, mutation, baseline)
                    with options.results.open("a") as results:
                        results.write(json.dumps(record) + "\n")
                    print(f"{file}:{mutation.line} {mutation.operator}: {record['failed'] or 'SURVIVED'}", flush=True)
                records.append(record)
    report(records)


if __name__ == "__main__":
    main()
