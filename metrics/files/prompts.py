"""The prompt of every video of a folder, out of a file of captions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from metrics.files.captions import Entry, read_captions
from metrics.files.tree import is_video_file

MOST_NAMED = 3


@dataclass(frozen=True)
class Prompts:
    """What videos were made for.

    Attributes:
        by_video: path → prompt, in the order of the videos.
        unused: how many entries of the file are of no video.
    """

    by_video: dict[Path, str]
    unused: int


def read_prompts(file: str | Path, videos: Sequence[Path], folder: Path) -> Prompts:
    """The prompt of each video: where the file names videos the entry that does, else line by line in natural order.

    An entry may call a video by its path below the folder, by a path that ends so, by its name, or by any of these
    without the suffix, or with that of another container.

    Args:
        file: see `metrics.files.captions`.
        videos: below the folder, in natural order.
        folder: that the file's paths start from.

    Raises:
        ValueError: what `read_captions` refuses; a video without a prompt or with two; a name that several videos have;
            a number of lines that is not that of videos.
    """
    file = Path(file)
    entries = read_captions(file)
    if entries[0].video is None:
        if len(entries) != len(videos):
            raise ValueError(f"{file}: {len(entries)} prompts for {len(videos)} videos")
        return Prompts({path: _only(entry, file) for path, entry in zip(videos, entries, strict=True)}, 0)
    found: dict[Path, Entry] = {}
    names = _Names(videos, folder)
    unused = 0
    for entry in entries:
        path = names.video(entry.video or "", file)
        if path is None:
            unused += 1
        elif path in found and found[path].captions != entry.captions:
            raise ValueError(f"{file}: two prompts for {path}, as {found[path].video} and as {entry.video}")
        else:
            found[path] = entry
    missing = [path for path in videos if path not in found]
    if missing:
        raise ValueError(f"{file}: no prompt for {len(missing)} videos, the first {missing[0].relative_to(folder)}")
    return Prompts({path: _only(found[path], file) for path in videos}, unused)


def _only(entry: Entry, file: Path) -> str:
    if len(entry.captions) > 1:
        of = f" for {entry.video}" if entry.video else ""
        raise ValueError(f"{file}: {len(entry.captions)} captions{of}; a video is made for one prompt")
    return entry.captions[0]


class _Names:
    """Videos by what a file may call them."""

    def __init__(self, videos: Sequence[Path], folder: Path) -> None:
        self._exact = {path.relative_to(folder).as_posix(): path for path in videos}
        self._by_last: dict[str, list[tuple[tuple[str, ...], Path]]] = defaultdict(list)
        for path in videos:
            parents = tuple(reversed(path.relative_to(folder).parent.parts))
            for last in dict.fromkeys((path.name, path.stem)):
                self._by_last[last].append((parents, path))

    def video(self, name: str, file: Path) -> Path | None:
        """The video called so; None for none."""
        called = PurePosixPath(name.replace("\\", "/"))
        if exact := self._exact.get(called.as_posix()):
            return exact
        parents = tuple(reversed(called.parent.parts))
        lasts = [called.name, *([called.stem] if is_video_file(Path(called.name)) else [])]
        same_name: list[tuple[tuple[str, ...], Path]] = next(
            (self._by_last[n] for n in lasts if n in self._by_last), []
        )
        found = [path for of_path, path in same_name if _agree(parents, of_path)]
        if len(found) > 1:
            some = ", ".join(map(str, found[:MOST_NAMED]))
            raise ValueError(f"{file}: {name} may be any of {len(found)} videos, such as {some}; give the path")
        return found[0] if found else None


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether folders, innermost first, are the same as far as both are given."""
    return all(a == b for a, b in zip(one, other, strict=False))
