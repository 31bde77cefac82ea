"""Ratios of interleaved timings: machines are noisy, so rivals take turns and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table


def interleaved_seconds(
    actions: Mapping[str, Callable[[], object]], rounds: int = 7, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of every call, `rounds` per action, the actions taking turns; `warmup` rounds are thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warmup + rounds):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def print_ratios(title: str, seconds: Mapping[str, list[float]], baseline: str) -> None:
    """A table of median, fastest and slowest seconds, and of the median ratio to `baseline` within each round."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for header in ("median s", "fastest", "slowest", f"time / {baseline}"):
        table.add_column(header, justify="right")
    for name, of_name in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(of_name, seconds[baseline], strict=True))
        spread = (statistics.median(of_name), min(of_name), max(of_name))
        table.add_row(name, *(f"{value:.4g}" for value in spread), f"{ratio:.3f}")
    Console().print(table)
