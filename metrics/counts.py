"""How many frames of a file can be decoded: counted, since headers are wrong often enough, and then kept."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock

from metrics.decoder import DECODER
from metrics.pictures import list_pictures
from metrics.readers import open_reader


class FrameCounts:
    """Counts by path, size and time of change of a file; safe for several threads and processes.

    Args:
        file: where counts are kept, a line of json each, which is only ever added to; None keeps them in memory.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._lock = file, Lock()
        self._known: dict[str, tuple[int, bool]] | None = None

    def __reduce__(self) -> tuple[type[FrameCounts], tuple[Path | None]]:
        """To a worker process goes where counts are kept; a lock cannot."""
        return FrameCounts, (self._file,)

    def available(self, path: Path, limit: int | None = None) -> int:
        """How many frames a file or a folder of frames has; at most `limit`, after which nothing more is decoded.

        Raises:
            VideoError: as `open_reader`.
        """
        if path.is_dir():
            count = len(list_pictures(path))
            return count if limit is None else min(count, limit)
        identity = _identity(path)
        with self._lock:
            self._known = self._read() if self._known is None else self._known
            count, is_all = self._known.get(identity, (0, False))
        if not is_all and (limit is None or count < limit):
            count, is_all = _count(path, limit)
            self._keep(identity, count, is_all)
        return count if limit is None else min(count, limit)

    def _read(self) -> dict[str, tuple[int, bool]]:
        """Of lines of this decoder; one that a killed process has not finished is passed over."""
        known: dict[str, tuple[int, bool]] = {}
        if self._file is None or not self._file.is_file():
            return known
        for line in self._file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                if record["decoder"] == DECODER:
                    known[record["of"]] = record["frames"], record["is_all"]
            except (ValueError, KeyError, TypeError):
                continue
        return known

    def _keep(self, identity: str, count: int, is_all: bool) -> None:
        record = {"of": identity, "frames": count, "is_all": is_all, "decoder": DECODER}
        with self._lock:
            assert self._known is not None, "counts are kept after they have been read"
            self._known[identity] = count, is_all
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")


def _identity(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # which is said by whoever opens it
        return str(path)
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _count(path: Path, limit: int | None) -> tuple[int, bool]:
    """Frames up to `limit`, and whether that is all."""
    reader = open_reader(path)
    try:
        while limit is None or reader.position < limit:
            if not reader.step():
                return reader.position, True
        return reader.position, False
    finally:
        reader.close()
