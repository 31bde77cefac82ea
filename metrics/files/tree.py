"""The one walker of people's folders: what is a video in them, and what is left out, counted by its reason.

Links are followed, to folders as to files. Names that operating systems leave behind are not listed; a link to nowhere
is, because whoever reads it can say so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metrics.files.order import natural_key

VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".f4v",
        ".flv",
        ".gif",
        ".ivf",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)
IMAGE_SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
_LEFT_BEHIND = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}

HIDDEN, SYSTEM, CYCLE, SPECIAL = "hidden", "of the operating system", "linked to a folder above", "no file"
BESIDE_FRAMES, OTHER = "beside frames", "no video by its name"


@dataclass(frozen=True)
class Listing:
    """What was found in a folder.

    Attributes:
        paths: video files and folders of frames, in natural order.
        left_out: how many names are not listed, by the reason.
    """

    paths: list[Path]
    left_out: dict[str, int]


def words(left_out: Mapping[str, int]) -> str:
    """What was left out, e.g. "2 hidden, 1 beside frames"; empty for nothing."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)


def find_videos(folder: str | Path) -> Listing:
    """Every video file below a folder, and every folder of frames as one video, whatever else lies in that folder.

    Pictures beside video files are listed one by one, since they are neither; to read one is an error that names it.

    Raises:
        ValueError: no such folder, or no video in it.
    """
    return _listing(folder, wants_files=True, wants_frames=True)


def find_video_files(folder: str | Path) -> Listing:
    """Every video file below a folder. Raises as `find_videos`."""
    return _listing(folder, wants_files=True, wants_frames=False)


def find_frame_folders(folder: str | Path) -> Listing:
    """Every folder of frames, from the given one down: it holds pictures, and no folder above it does. Raises as
    `find_videos`."""
    return _listing(folder, wants_files=False, wants_frames=True)


def frame_files(folder: Path) -> list[Path]:
    """The pictures right in a folder, in natural order; a link to nowhere is one by its name."""
    entries = [entry for entry in os.scandir(folder) if not _unlisted(entry.name) and not _is_folder(entry)]
    return sorted((path for entry in entries if is_picture(path := folder / entry.name)), key=natural_key)


def sub_folders(folder: Path) -> list[Path]:
    """The folders right in a folder, in natural order, without those that no walk enters."""
    entries = [entry for entry in os.scandir(folder) if not _unlisted(entry.name) and _is_folder(entry)]
    return sorted((folder / entry.name for entry in entries), key=natural_key)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_video_file(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def walk(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Every file below a folder, in natural order; what is passed over is counted in `left_out` by its reason.

    Raises:
        OSError: a folder that cannot be read.
    """
    yield from _walk(folder, frozenset({_identity(folder)}), left_out)


def _walk(folder: Path, above: frozenset[tuple[int, int]], left_out: Counter[str]) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name)):
        path = folder / entry.name
        if reason := _unlisted(entry.name):
            left_out[reason] += 1
        elif _is_folder(entry):
            identity = _identity(path)
            if identity in above:
                left_out[CYCLE] += 1
            else:
                yield from _walk(path, above | {identity}, left_out)
        elif _is_file(entry):
            yield path
        else:  # a pipe or a device, which would be waited for
            left_out[SPECIAL] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also through a link; one that leads in a circle is none."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Also through a link, and through one to nowhere."""
    return (os.path.isfile(entry) or not os.path.exists(entry)) if entry.is_symlink() else entry.is_file()


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _unlisted(name: str) -> str | None:
    """Why nobody means this name; None for any other."""
    if name.startswith("."):  # also ._name, a resource fork
        return HIDDEN
    return SYSTEM if name.lower() in _LEFT_BEHIND else None


def _listing(folder: str | Path, wants_files: bool, wants_frames: bool) -> Listing:
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise ValueError(f"{folder}: {'not a folder' if os.path.exists(folder) else 'no such folder'}")
    left_out: Counter[str] = Counter()
    files = list(walk(folder, left_out))
    filmed = {path.parent for path in files if is_video_file(path)} if wants_files else set()
    framed = ({path.parent for path in files if is_picture(path)} - filmed) if wants_frames else set()
    framed = {folder for folder in framed if framed.isdisjoint(folder.parents)}
    within = {folder for folder in {path.parent for path in files} if not framed.isdisjoint((folder, *folder.parents))}
    paths = [*framed]
    for path in files:
        is_wanted_file = is_video_file(path) or (wants_frames and is_picture(path) and path.parent in filmed)
        was_frame_folder = wants_frames and not path.suffix and path.parent not in within and _leads_nowhere(path)
        if (wants_files and is_wanted_file) or was_frame_folder:
            paths.append(path)
        elif not (is_picture(path) and path.parent in framed):
            left_out[BESIDE_FRAMES if path.parent in within else OTHER] += 1
    if not paths:
        raise ValueError(_nothing(folder, wants_files, wants_frames, left_out))
    return Listing(sorted(paths, key=natural_key), dict(left_out))


def _nothing(folder: Path, wants_files: bool, wants_frames: bool, left_out: Counter[str]) -> str:
    wanted = [VIDEO_SUFFIXES] * wants_files + [IMAGE_SUFFIXES] * wants_frames
    what = " or ".join(["video"] * wants_files + ["folder of frames"] * wants_frames)
    looked = "looked for " + ", ".join(sorted(suffix for suffixes in wanted for suffix in suffixes))
    found = f"; found {words(left_out)}" if left_out.total() else "; it is empty"
    return f"{folder}: no {what} in it ({looked}{found})"
