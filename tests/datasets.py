"""Two short videos, and every dataset's own layout of them."""

import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np


def write_footage(folder: Path) -> Path:
    """Two videos of 320 frames: 80 clips of 8 frames."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (48, 400, 3), np.uint8)
    for name, step in (("pan.mp4", 1), ("fast.mp4", 2)):
        frames = [np.roll(texture, -step * t, axis=1)[:, :64] for t in range(320)]
        iio.imwrite(folder / name, np.stack(frames), fps=25, codec="libx264")
    return folder


def lay_out(footage: Path, root: Path) -> dict[str, list[str]]:
    """By dataset: the command-line words that point it at the footage in its own layout, with 80 clips or more."""
    for video, place in (("pan", "ApplyLipstick/v_ApplyLipstick_g01_c01"), ("fast", "YoYo/v_YoYo_g01_c01")):
        (root / "ucf101" / place).parent.mkdir(parents=True)
        shutil.copy(footage / f"{video}.mp4", root / "ucf101" / f"{place}.mp4")
    (root / "msrvtt").mkdir()
    for video, number in (("pan", 7010), ("fast", 7011)):
        shutil.copy(footage / f"{video}.mp4", root / "msrvtt" / f"video{number}.mp4")
    captions = [{"video_id": f"video{n}", "caption": f"caption {i} of {n}"} for n in (3, 7010, 7011) for i in range(20)]
    (root / "captions.json").write_text(json.dumps({"sentences": captions}))
    for folder in ("sky_train/clip", "train/clip"):
        (root / "frames" / folder).mkdir(parents=True)
        for t in range(520):
            (root / "frames" / folder / f"{t}.png").touch()
    (root / "prompts.txt").write_text("a red circle growing\na blue cross moving left\n")
    return {
        "prompts": [f"dataset.file={root}/prompts.txt"],
        "folder": [f"dataset.root={footage}"],
        "ucf101": [f"dataset.root={root}/ucf101"],
        "msrvtt": [
            f"dataset.root={root}/msrvtt",
            f"dataset.annotations={root}/captions.json",
            "dataset.skip_bad=true",
        ],
        **{name: [f"dataset.root={root}/frames"] for name in ("skytimelapse", "taichi", "faceforensics")},
    }
