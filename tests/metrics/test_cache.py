"""Changing anything that features depend on misses the cache; changing nothing hits it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from metrics.cache import FeatureCache, FeatureKey
from metrics.decoding import Source
from metrics.options import ClipRule, Resize


@pytest.fixture
def paths(tmp_path):
    """Two lossless videos, as folders of frames."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for t in range(2):
            cv2.imwrite(str(tmp_path / name / f"{t}.png"), rng.integers(0, 255, (8, 8, 3), np.uint8))
    return [Source(tmp_path / "a"), Source(tmp_path / "b")]


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def test_the_same_key_hits(cache, paths, extractor):
    features = torch.rand(2, 8)
    assert cache.get(FeatureKey.of(paths, ClipRule(2), extractor)) is None
    cache.put(FeatureKey.of(paths, ClipRule(2), extractor), features)
    assert torch.equal(cache.get(FeatureKey.of(list(paths), ClipRule(2), extractor)), features)
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize(
    "rule",
    [
        ClipRule(3),
        ClipRule(2, stride=2),
        ClipRule(2, resolution=4),
        ClipRule(2, random_start=True),
        ClipRule(2, seed=1),
        ClipRule(2, resize=Resize.bilinear),
    ],
    ids=["frames", "stride", "crop", "start", "seed", "resize"],
)
def test_another_clip_rule_misses(cache, paths, extractor, rule):
    cache.put(FeatureKey.of(paths, ClipRule(2), extractor), torch.rand(2, 8))
    assert cache.get(FeatureKey.of(paths, rule, extractor)) is None


@pytest.mark.parametrize(
    "change",
    ["order", "count", "start", "pixel", "name", "weights", "extractor", "antialias", "size", "dtype", "decoder"],
)
def test_every_other_change_misses(cache, paths, extractor, change):
    key = FeatureKey.of(paths, ClipRule(2), extractor)
    cache.put(key, torch.rand(2, 8))
    if change == "order":
        changed = FeatureKey.of(paths[::-1], ClipRule(2), extractor)
    elif change == "count":
        changed = FeatureKey.of(paths[:1], ClipRule(2), extractor)
    elif change == "start":
        changed = FeatureKey.of([paths[0], Source(paths[1].path, 0)], ClipRule(2), extractor)
    elif change == "pixel":
        frame = cv2.imread(str(paths[1].path / "1.png"))
        frame[3, 3, 0] ^= 1
        cv2.imwrite(str(paths[1].path / "1.png"), frame)
        changed = FeatureKey.of(paths, ClipRule(2), extractor)
    elif change == "name":
        renamed = paths[1].path.rename(paths[1].path.with_name("c"))
        changed = FeatureKey.of([paths[0], Source(renamed)], ClipRule(2), extractor)
    elif change in ("weights", "extractor", "antialias", "size"):
        attribute, value = {
            "weights": ("sha256", "0" * 64),
            "extractor": ("name", "another"),
            "antialias": ("resize", "bilinear, antialias"),
            "size": ("input_size", (8, 8)),
        }[change]
        setattr(extractor, attribute, value)
        changed = FeatureKey.of(paths, ClipRule(2), extractor)
    else:
        changed = replace(key, **{change: "another"})
    assert cache.get(changed) is None


def test_only_frames_count_of_a_folder(cache, paths, extractor):
    """A sub-folder was an IsADirectoryError."""
    before = FeatureKey.of(paths, ClipRule(2), extractor)
    (paths[0].path / "masks").mkdir()
    for name in ("n_frames", ".DS_Store", "masks/0.png"):
        (paths[0].path / name).touch()
    assert FeatureKey.of(paths, ClipRule(2), extractor) == before


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:20], lambda data: b""]
)
def test_damage_is_noticed(cache, paths, extractor, damage):
    key = FeatureKey.of(paths, ClipRule(2), extractor)
    cache.put(key, torch.rand(2, 8))
    (file,) = cache.folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="is damaged; delete it"):
        cache.get(key)
