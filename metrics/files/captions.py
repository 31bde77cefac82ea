"""Files of captions, in every form that people keep them in, as one list of entries."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metrics.files.text import parse_json, read_json, read_text
from metrics.files.tree import is_video_file

# Compared without case, spaces and what is neither letter nor digit: `Video Name` is video_name.
VIDEO_KEYS = [
    *("video", "videos", "video_list", "video_name", "video_file", "video_filename", "video_path", "video_id"),
    *("file", "file_name", "file_path", "path", "name"),
    *("clip", "clip_name", "clip_file", "clip_path", "clip_id", "image_id", "id"),
]
CAPTION_KEYS = ["caption", "prompt", "text", "sentence", "captions", "prompts", "sentences", "prompt_en"]
DELIMITERS = ",;\t"
LISTS = ("sentences", "annotations")
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")


class Entry(NamedTuple):
    """What a file says of one video.

    Attributes:
        video: as the file calls it; None in a file that has captions alone, in order.
        captions: one or more, none of them empty.
    """

    video: str | None
    captions: tuple[str, ...]


def read_captions(file: str | Path) -> list[Entry]:
    """The entries of a file, in its order; by its suffix:

    .json: {video: caption or captions}, a list of {video, caption}, a list of captions, or an object with such a list
    as `sentences` or `annotations`; .jsonl: one {video, caption} or caption a line; .csv, .tsv: with a header that has
    a column of captions and may have one of videos; .txt: one caption a line. `VIDEO_KEYS` and `CAPTION_KEYS` are the
    names that such keys and columns may have.

    Raises:
        ValueError: one line: another suffix, not of these forms, no caption, a caption that is no text or empty, two
            columns of captions, another key or column that seems to name videos, entries of which some name their
            video and some do not.
    """
    file = Path(file)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES and not os.path.isdir(file):
        raise ValueError(f"{file}: a file of captions ends in one of {', '.join(SUFFIXES)}")
    if suffix == ".json":
        entries = _of_json(read_json(file), file)
    elif suffix in (".csv", ".tsv"):
        entries = _of_table(read_text(file), file)
    else:
        lines = read_text(file).rstrip().split("\n")
        numbered = [(f"{file}: line {number}", line) for number, line in enumerate(lines, 1)]
        if suffix != ".txt":
            numbered = [(where, parse_json(line, where)) for where, line in numbered if line.strip()]
        entries = [entry for where, item in numbered for entry in _entries(item, where)]
    if not entries:
        raise ValueError(f"{file}: no caption in it")
    if len({entry.video is None for entry in entries}) > 1:
        raise ValueError(f"{file}: some entries name their video and some do not")
    return entries


def _of_json(content: Any, file: Path) -> list[Entry]:
    if isinstance(content, dict):
        lists = [content[key] for key in LISTS if isinstance(content.get(key), list)]
        if not lists:
            return [_named(video, value, f"{file}: {video}") for video, value in content.items()]
        content = lists[0]
    if not isinstance(content, list):
        raise ValueError(f"{file}: must be an object or a list, got {type(content).__name__}")
    return [entry for number, item in enumerate(content) for entry in _entries(item, f"{file}: entry {number}")]


def _of_table(text: str, file: Path) -> list[Entry]:
    first = text.partition("\n")[0]
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    delimiter = usual if usual in first else max(usual + DELIMITERS, key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = reader.fieldnames or []
    if not any(_is_one_of(name, CAPTION_KEYS) for name in header):
        raise ValueError(
            f"{file}: no column of captions in its header ({', '.join(header)}); it must have one of "
            f"{', '.join(CAPTION_KEYS)}"
        )
    twice = next((name for name in header if sum(_plain(name) == _plain(other) for other in header) > 1), None)
    if twice is not None:
        raise ValueError(f"{file}: the column {twice} stands twice in its header")
    entries = []
    for row in reader:
        where = f"{file}: line {reader.line_num}"
        if None in row:
            raise ValueError(
                f"{where} has more fields than the header's {len(header)}; a caption with a comma is quoted"
            )
        entries += _entries(row, where)
    return entries


def _entries(item: Any, where: str) -> list[Entry]:
    """Of a caption alone, or of {video, caption}, or of {videos, caption}."""
    if not isinstance(item, Mapping):
        return [Entry(None, _captions(item, where))]
    known = (item[key] for name in VIDEO_KEYS for key in item if _is_one_of(key, [name]))
    value = next((value for value in known if value is not None), None)
    if value is None:
        _refuse_unknown_names(item, where)
    videos = value if isinstance(value, list) and value else [value]
    for video in videos:
        if video is not None and (not isinstance(video, str | int) or isinstance(video, bool)):
            raise ValueError(f"{where}: the video {value!r}: must be a name or a number")
    where = where if value is None else f"{where}, video {value}"
    captions = _captions(_caption_field(item, where), where)
    return [Entry(None if video is None else str(video).strip(), captions) for video in videos]


def _refuse_unknown_names(item: Mapping[str, Any], where: str) -> None:
    """A key that seems to name the video would otherwise be passed over, and captions go to videos by their order."""
    for key, value in item.items():
        if not isinstance(value, str) or _is_one_of(key, CAPTION_KEYS):
            continue
        if is_video_file(Path(value.strip())) or any(word in _plain(key) for word in ("video", "clip", "file")):
            raise ValueError(
                f"{where}: {key} ({value}): if it names the video, it must be called one of {', '.join(VIDEO_KEYS)}; "
                "else leave it out"
            )


def _named(video: str, value: Any, where: str) -> Entry:
    """Of {video: caption}, {video: captions} or {video: {caption: …}}."""
    if isinstance(value, Mapping):
        value = _caption_field(value, where)
    return Entry(video, _captions(value, where))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _is_one_of(key: str, names: Sequence[str]) -> bool:
    return _plain(key) in map(_plain, names)


def _caption_field(fields: Mapping[str, Any], where: str) -> Any:
    """The only one of the caption fields."""
    found = [key for key in fields if _is_one_of(key, CAPTION_KEYS)]
    if len(found) != 1:
        raise ValueError(
            f"{where}: has {' and '.join(found) or 'no caption'}; it must have exactly one of {', '.join(CAPTION_KEYS)}"
        )
    return fields[found[0]]


def _captions(value: Any, where: str) -> tuple[str, ...]:
    captions = value if isinstance(value, list) else [value]
    for caption in captions or [None]:
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{where}: its caption is {caption!r}; it must be text")
    return tuple(captions)
