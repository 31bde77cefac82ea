"""Features kept on disk under everything that determines them, so that a stale value is never reused."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metrics.decoder import DECODER
from metrics.decoding import Source
from metrics.extractors.base import VideoExtractor, file_sha256
from metrics.files.tree import frame_files
from metrics.options import ClipRule


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on.

    Attributes:
        manifest: SHA-256 over the clips in order: names and bytes of the videos, first frames where those are chosen.
        count: number of clips (N).
        rule: frames, stride, crop, resize and random starts of the clips.
        decoder: library and version that decodes them.
        extractor: its name.
        extractor_sha256: of its weights.
        extractor_resize: its own resize rule, antialiasing included.
        dtype: of the features.
    """

    manifest: str
    count: int
    rule: ClipRule
    decoder: str
    extractor: str
    extractor_sha256: str
    extractor_resize: str
    dtype: str = "float32"

    @classmethod
    def of(cls, sources: Sequence[Source], rule: ClipRule, extractor: VideoExtractor) -> FeatureKey:
        """The key of these clips under this extractor; reads every file once."""
        resize = f"{extractor.input_size} {extractor.resize}"
        return cls(manifest(sources), len(sources), rule, DECODER, extractor.name, extractor.sha256, resize)

    @property
    def digest(self) -> str:
        """SHA-256 over all fields, the name of the cache entry."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def manifest(sources: Sequence[Source]) -> str:
    """SHA-256 over the names and bytes of the clips' files and their chosen first frames, in the order given.

    A file that cannot be read counts by its name alone: whether that is an error is for whoever reads the clips.
    """
    digest = hashlib.sha256()
    for path, clips in groupby(sources, key=attrgetter("path")):
        for file in _files(path):
            digest.update(f"{path.name}/{file.name} {_file_sha256(file)}\n".encode())
        digest.update(f"{[clip.start for clip in clips]}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """What a clip of this path is read from."""
    try:
        return frame_files(path) if path.is_dir() else [path]
    except OSError:
        return [path]


def _file_sha256(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        return f"unreadable: {error.strerror}"


@dataclass(frozen=True)
class FeatureCache:
    """A folder of safetensors files, one per key.

    Attributes:
        folder: created when first written to.
    """

    folder: Path

    def get(self, key: FeatureKey) -> Tensor | None:
        """Features (N, D) stored under the key; None when there are none.

        Raises:
            ValueError: the stored features are damaged.
        """
        path = self._path(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                features, checksum = file.get_tensor("features"), (file.metadata() or {}).get("sha256")
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged; delete it ({error})") from None
        if tensor_sha256(features) != checksum:
            raise ValueError(f"{path} is damaged; delete it")
        return features

    def put(self, key: FeatureKey, features: Tensor) -> None:
        """Store features (N, D) under the key, atomically; the file also says in words what the key was."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            written = Path(temporary) / "features"
            metadata = {"key": json.dumps(asdict(key)), "sha256": tensor_sha256(features)}
            save_file({"features": features.contiguous()}, written, metadata)
            os.replace(written, self._path(key))

    def _path(self, key: FeatureKey) -> Path:
        return self.folder / f"{key.digest}.safetensors"


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of a CPU tensor's values, hex."""
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
