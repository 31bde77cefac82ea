import pickle

import imageio.v3 as iio
import numpy as np
import pytest

from metrics.counts import FrameCounts


@pytest.mark.parametrize("kept", [True, False])
def test_a_worker_process_gets_the_same_counts(kept, tmp_path):
    video = tmp_path / "a.mp4"
    iio.imwrite(video, np.zeros((12, 32, 32, 3), np.uint8), fps=8, codec="libx264")
    counts = FrameCounts(tmp_path / "counts.jsonl" if kept else None)
    assert counts.available(video) == 12
    handed_over = pickle.loads(pickle.dumps(counts))
    assert handed_over.available(video) == 12
