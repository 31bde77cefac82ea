"""How many videos decide between two arms, from a finished run: `python -m experiments.power RUN A B --effect 0.5`.

The folder is of a run or of a sweep, A and B are arms as its table names them ("qvd w8a8"; in a sweep with the setting
before it). What is asked is the mean difference that the tests of comparisons.md are to find; the finished run says how
differences scatter over videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.comparison import LEVEL, check_comparable, compared_metrics
from experiments.config.nodes import nearest
from experiments.folders import METRICS
from experiments.record import arm_from_record
from experiments.report.joint_table import read_sweep
from experiments.result import ArmMetrics
from experiments.scores import FILE, read_scores
from metrics.comparisons import compare_scores
from metrics.declaration import Direction, Metric
from metrics.errors import one_line_errors
from metrics.power import videos_needed


def read_scored(folder: Path) -> dict[str, ArmMetrics]:
    """The arms of a run or of a sweep's jobs, with their scores, by setting and name.

    Raises:
        ValueError: there are none.
    """
    if (folder / FILE).exists():
        scores = read_scores(folder / FILE)
        records = json.loads((folder / METRICS).read_text())["arms"].values()
        arms = [replace(arm, scores=scores.get(arm.name, arm.scores)) for arm in map(arm_from_record, records)]
    else:
        arms = read_sweep(folder)
    if not arms:
        raise ValueError(f"{folder}: holds no finished run with its {FILE}")
    return {" ".join(filter(None, (arm.setting, arm.name))): arm for arm in arms}


def videos_report(a: ArmMetrics, b: ArmMetrics, metric: Metric, effect: float, power: float, pairs: int) -> list[str]:
    """The pilot's difference and the number of videos, alone and as one of `pairs` comparisons, a line each.

    Raises:
        ValueError: arms that are no pair, without the metric's scores, or what `videos_needed` refuses.
    """
    check_comparable(a, b)
    for arm in (a, b):
        if metric.key not in arm.scores.per_video:
            raise ValueError(f"{arm.name}: has no scores of {metric.key} for each video")
    one, other = (arm.scores.per_video[metric.key] for arm in (a, b))
    found = compare_scores(one, other, metric.direction is Direction.higher)
    low, high = found.interval
    unit = f" {metric.unit}" if metric.unit else ""
    lines = [
        f"{metric.name}, {a.name} against {b.name}, positive where the first is better: {found.difference:.4g} "
        f"[{low:.4g}, {high:.4g}]{unit} on average; better on {found.wins} of N = {len(one)} videos, worse on "
        f"{found.losses}; sign test p = {found.sign_p:.2g}, signed-rank test p = {found.wilcoxon_p:.2g}"
    ]
    for number in dict.fromkeys((1, pairs)):
        needed = videos_needed(one - other, effect, power, LEVEL / number)
        family = "as the only comparison" if number == 1 else f"as any of {number} comparisons"
        lines.append(
            f"a mean difference of {effect:g}{unit} is decided with probability {power:g} at {LEVEL:.0%} on {needed} "
            f"videos {family}"
        )
    return lines


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a run, or of a sweep")
    parser.add_argument("a", metavar="A", help='arm, as "qvd w8a8"')
    parser.add_argument("b", metavar="B", help="arm")
    parser.add_argument("--metric", default="psnr_fp", metavar="KEY", help="a column of scores.csv (psnr_fp)")
    parser.add_argument("--effect", type=float, required=True, help="mean difference, in the metric's unit")
    parser.add_argument("--power", type=float, default=0.8, help="probability to decide (0.8)")
    options = parser.parse_args(words)
    with one_line_errors():
        arms = read_scored(options.folder)
        for name in (options.a, options.b):
            if name not in arms:
                raise ValueError(f"arm {name}: {nearest(name, list(arms))}")
        metrics = {metric.key: metric for metric in compared_metrics()}
        if options.metric not in metrics:
            raise ValueError(f"metric {options.metric}: {nearest(options.metric, list(metrics))}")
        a, b = arms[options.a], arms[options.b]
        rivals = [arm for arm in arms.values() if arm.conditions == a.conditions and arm.setting == a.setting]
        quantized = sum(options.metric in arm.scores.per_video for arm in rivals)
        pairs = quantized * (quantized - 1) // 2
        print("\n".join(videos_report(a, b, metrics[options.metric], options.effect, options.power, pairs)))


if __name__ == "__main__":
    main()
