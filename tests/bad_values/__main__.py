"""How many bad values are refused in one line: `python -m tests.bad_values [--sample N] [--seed S] [--accepted]`."""

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import tests.environment  # isort: skip  # noqa: F401  (before what reads it)
from tests.bad_values.values import cases, outcome
from tests.datasets import lay_out, write_footage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many, rather than all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accepted", action="store_true", help="list what is accepted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        footage, root = Path(folder, "footage"), Path(folder, "datasets")
        for place in (footage, root):
            place.mkdir()
        every = cases(lay_out(write_footage(footage), root))
        if arguments.sample is not None:
            every = random.Random(arguments.seed).sample(every, arguments.sample)
        counted, started = Counter(), time.perf_counter()
        for case in every:
            what, said = outcome(case)
            counted[what] += 1
            if what == "wrong" or (what == "accepted" and arguments.accepted):
                print(f"{what}: {case.base} {case.key} = {case.value}: {said[:300]!r}", flush=True)
    options = len({(case.base, case.key) for case in every})
    print(f"{len(every)} values of {options} options in {time.perf_counter() - started:.0f} s: {dict(counted)}")


if __name__ == "__main__":
    main()
