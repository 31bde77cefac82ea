import imageio.v3 as iio
import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """Two videos of 320 frames: 80 clips of 8 frames."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (48, 400, 3), np.uint8)
    for name, step in (("pan.mp4", 1), ("fast.mp4", 2)):
        frames = [np.roll(texture, -step * t, axis=1)[:, :64] for t in range(320)]
        iio.imwrite(folder / name, np.stack(frames), fps=25, codec="libx264")
    return folder
