"""Metrics of folders of videos, for people who only want the numbers.

    python -m metrics.cli fvd REAL_DIR GEN_DIR --protocol styleganv_fvd2048 --json
    python -m metrics.cli fvd REAL_DIR GEN_DIR --per-class --videos 20
    python -m metrics.cli clipsim GEN_DIR --prompts prompts.json --json

Videos are taken in natural order (2.mp4 before 10.mp4), and a result says which came first and last. FVD: every cell
carries its protocol, N, extractor and the extractor's SHA-256. A video that cannot be used is an error that names it;
with --skip-bad it is left out, and the result says how many were.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from metrics.errors import one_line_errors
from metrics.files.captions import SUFFIXES
from metrics.options import EXTRACTORS


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Bad input ends it with one line per error on stderr, and a status that is not 0."""
    options = parse(arguments)
    with one_line_errors(when_interrupted="the same command starts anew"):
        from metrics import commands  # torch is not needed to say what is wrong with the command line

        result = getattr(commands, options.command)(options)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    lines = dict(_flat(result))
    width = max(map(len, lines))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in lines.items()))


def _flat(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Command line to options; `command` is the name of a function of `metrics.commands`."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--skip-bad", action="store_true", help="leave unusable videos out, and say how many")
    shared.add_argument("--batch-size", type=_at_least(1), default=8, metavar="B", help="videos per forward pass (8)")
    shared.add_argument("--workers", type=_at_least(0), default=2, metavar="W", help="decoding threads (2)")
    shared.add_argument("--device", default="cpu", help="of the network (cpu)")
    about = "of conf/protocol, or a yaml file (styleganv_fvd2048)"
    shared.add_argument("--protocol", default="styleganv_fvd2048", metavar="NAME", help=about)

    parser = argparse.ArgumentParser(prog="metrics", description="Metrics of folders of videos.")
    commands = parser.add_subparsers(required=True)
    _add_fvd(commands.add_parser("fvd", parents=[shared], help="Fréchet Video Distance of two folders"))
    about = "CLIPSIM, CLIP-Temp or others of one folder"
    _add_clipsim(commands.add_parser("clipsim", parents=[shared], help=about))
    return parser.parse_args(arguments)


def _add_fvd(fvd: argparse.ArgumentParser) -> None:
    fvd.add_argument("real", metavar="REAL_DIR")
    fvd.add_argument("generated", metavar="GEN_DIR")
    fvd.add_argument("--videos", type=_at_least(1), metavar="N", help="of each side, instead of the protocol's number")
    fvd.add_argument("--reference-videos", type=_at_least(1), metavar="M", help="of REAL_DIR, where it is not N")
    about = "one FVD for each sub-folder that both sides have; N and M are then of each class"
    fvd.add_argument("--per-class", action="store_true", help=about)
    fvd.add_argument("--extractor", choices=EXTRACTORS, help="instead of the protocol's")
    fvd.add_argument("--weights", metavar="FILE", help="of the extractor; downloaded once where that is possible")
    fvd.add_argument("--cache", metavar="DIR", help="keep features and numbers of frames here, and reuse them")
    fvd.set_defaults(command="run_fvd")


def _add_clipsim(clipsim: argparse.ArgumentParser) -> None:
    clipsim.add_argument("generated", metavar="GEN_DIR")
    about = f"of every video: {', '.join(SUFFIXES)} (see metrics.files.captions)"
    clipsim.add_argument("--prompts", required=True, metavar="FILE", help=about)
    clipsim.add_argument("--frames", type=_at_least(1), metavar="T", help="per video, instead of the protocol's")
    clipsim.add_argument("--clip", metavar="PATH", help="instead of the protocol's")
    keys = ["clipsim", "clip_temp"]
    about = f"by their keys, of the metrics that need nothing but videos and prompts ({' '.join(keys)})"
    clipsim.add_argument("--metrics", nargs="+", default=keys, metavar="KEY", help=about)
    clipsim.add_argument("--evalcrafter-compat", action="store_true", help="feed raw 0-255 pixels")
    clipsim.set_defaults(command="run_clipsim")


class _at_least:
    """An integer of at least so much."""

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum

    def __call__(self, word: str) -> int:
        if not word.removeprefix("-").isdecimal() or int(word) < self.minimum:
            raise argparse.ArgumentTypeError(f"{word}: must be an integer of at least {self.minimum}")
        return int(word)


if __name__ == "__main__":
    main()
