"""Faults injected on purpose, and how many were survived: `python -m tests.torture store [--every N]`.

The figures of docs/reliability.md are what this prints. Exit code 1 where a fault was not survived.
"""

import argparse
import sys
from importlib import import_module

import tests.environment  # noqa: F401  (before what reads it)

SUBJECTS = ("store",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Inject faults, count what survives.")
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th fault at a call (1: all)")
    options = parser.parse_args()
    return import_module(f"tests.torture.{options.subject}").main(options.every)


if __name__ == "__main__":
    sys.exit(main())
