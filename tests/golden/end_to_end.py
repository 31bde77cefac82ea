"""What the small run of tests/end_to_end has to give; made again by `python -m tests.golden.end_to_end`."""

import hashlib
import json
import tempfile
from pathlib import Path

import torch

import tests.environment  # noqa: F401  (one thread in each process of the run)
from tests.end_to_end.small_run import FP, QUANTIZED, SmallRun

FILE = Path(__file__).with_suffix(".json")
TIMINGS = {"seconds", "peak_memory_bytes", "command"}
VIDEOS = 3


def summary(run):
    """The run as JSON: numbers of six digits (three of a map's), videos as coarse brightness."""
    return {
        "arithmetic": arithmetic(run),
        "metrics": {name: dict(numbers(run.metrics[name])) for name in (FP, *QUANTIZED)},
        "videos": {name: [coarse(video) for video in run.videos(name)[:VIDEOS]] for name in (FP, *QUANTIZED)},
        "map": {name: [map_row(row) for row in run.quantized(name).metadata["map"]] for name in QUANTIZED},
    }


def arithmetic(run):
    """Hash of the FP model's bits: its videos, and the extremes of every channel that a layer reads.

    Machines of other instruction sets add in another order. Of the FP model only last bits show it; but these decide
    which way an activation is rounded, and a quantized model's videos then differ visibly.
    """
    tensors = [run.videos(FP)]
    for _, seen in sorted(run.ranges(QUANTIZED[0]).items()):
        tensors += [seen.channel_min, seen.channel_max]
    return hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


def numbers(metrics, prefix=""):
    """Dotted name → value of everything in metrics.json that a repetition would give again."""
    items = metrics.items() if isinstance(metrics, dict) else enumerate(metrics)
    for key, value in items:
        if key in TIMINGS:
            continue
        if isinstance(value, dict | list):
            yield from numbers(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", rounded(value, 6)


def rounded(value, digits):
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def coarse(video):
    """Means over half of the frames and eighths of width and height: uint8 (T, 3, H, W) → 2·3·4·4 numbers."""
    means = torch.nn.functional.avg_pool3d(video.float().movedim(1, 0), (len(video) // 2, 8, 8))
    return [round(value, 1) for value in means.flatten().tolist()]


def map_row(row):
    """[name, what has to be exactly so, numbers]: a row of the quantization map."""
    exact = [row[key] for key in ("kind", "weight_bits", "activation_bits", "grid", "rule")]
    low, high = row["range"] or (None, None)
    found = {"low": low, "high": high, **row["notes"]}
    return [row["layer"], exact, {key: rounded(value, 3) for key, value in found.items()}]


def text(value, indent=0):
    """JSON with a line for each number of an arm, each video and each row of a map."""
    if isinstance(value, dict):
        items, ends = [f"{json.dumps(key)}: {text(item, indent + 1)}" for key, item in value.items()], "{}"
    elif isinstance(value, list) and all(isinstance(item, list) for item in value):
        items, ends = [json.dumps(item) for item in value], "[]"
    else:
        return json.dumps(value)
    separator = "\n" + " " * (indent + 1)
    return f"{ends[0]}{separator}{f',{separator}'.join(items)}{separator[:-1]}{ends[1]}"


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(text(summary(SmallRun.finish(Path(folder)))) + "\n")
    print(FILE)


if __name__ == "__main__":
    main()
