"""UCF-101 (Soomro et al. 2012) in its official layout, `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from qvd.data.base import Video, VideoFiles
from qvd.data.ucf101_sentences import SENTENCES

LISTS = "ucfTrainTestlist"


class Split(Enum):
    """Which of the official lists is used; `all` needs none."""

    all = "all"
    train = "train"
    test = "test"


@dataclass(frozen=True)
class UCF101(VideoFiles):
    """Every file of the class folders, or those of an official list; the caption is the class's sentence.

    Attributes:
        split: all videos, or the official train or test list.
        fold: which of the three lists.
        lists: folder of the official lists; None looks for `ucfTrainTestlist` in the root and beside it.
    """

    split: Split = Split.all
    fold: int = 1
    lists: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold not in (1, 2, 3):
            raise ValueError(f"dataset.fold={self.fold}: allowed are 1, 2, 3")
        if self.split is not Split.all:
            self._list_file()

    def list_videos(self) -> list[Video]:
        root = Path(self.root)
        folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name != LISTS)
        for folder in folders:
            if folder.name not in SENTENCES:
                close = difflib.get_close_matches(folder.name, SENTENCES, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"{folder}: not a class of UCF-101{hint}")
        paths = [path for folder in folders for path in sorted(folder.iterdir()) if path.name[0] != "."]
        if self.split is not Split.all:
            paths = self._listed()
        return [Video(path, SENTENCES[path.parent.name]) for path in paths]

    def describe(self) -> str:
        fold = "" if self.split is Split.all else f"{self.fold:02}"
        return f"ucf101/{self.split.value}{fold} ({len(self.videos)} videos)"

    def _listed(self) -> list[Path]:
        """The list's videos; train lists carry a class number behind each name."""
        file = self._list_file()
        listed = [Path(self.root) / line.split()[0] for line in file.read_text().splitlines() if line.strip()]
        missing = [path for path in listed if not path.exists()]
        if missing:
            raise ValueError(f"{file}: {len(missing)} of {len(listed)} videos are missing, the first {missing[0]}")
        return sorted(listed)

    def _list_file(self) -> Path:
        root = Path(self.root)
        folders = [Path(self.lists)] if self.lists else [root / LISTS, root.parent / LISTS]
        name = f"{self.split.value}list{self.fold:02}.txt"
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        where = " or ".join(map(str, folders))
        raise ValueError(f"dataset.split={self.split.value}: {name} is not in {where}; give dataset.lists")
