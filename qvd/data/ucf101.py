"""UCF-101 (Soomro et al. 2012) in its official layout, `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from metrics.files.order import natural_key
from metrics.files.text import read_text
from metrics.files.tree import Listing, find_videos, sub_folders
from qvd.data.base import VideoFiles
from qvd.data.ucf101_sentences import SENTENCES

LISTS = "ucfTrainTestlist"


class Split(Enum):
    """Which of the official lists is used; `all` needs none."""

    all = "all"
    train = "train"
    test = "test"


@dataclass(frozen=True)
class UCF101(VideoFiles):
    """Every file of the class folders, or those of an official list, in natural order; the class's sentence as caption.

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

    def find_videos(self) -> Listing:
        for folder in sub_folders(Path(self.root)):
            if folder.name not in (*SENTENCES, LISTS):
                close = difflib.get_close_matches(folder.name, SENTENCES, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"{folder}: not a class of UCF-101{hint}")
        if self.split is not Split.all:
            return Listing(self._listed(), {})
        found = find_videos(self.root)
        paths = [path for path in found.paths if self._class(path) in SENTENCES]
        return Listing(paths, {**found.left_out, "in no class's folder": len(found.paths) - len(paths)})

    def caption_of(self, path: Path) -> str:
        return SENTENCES[self._class(path)]

    def _class(self, path: Path) -> str:
        return next(iter(path.relative_to(self.root).parts), "")

    def describe(self) -> str:
        fold = "" if self.split is Split.all else f"{self.fold:02}"
        return f"ucf101/{self.split.value}{fold} ({len(self.videos)} videos)"

    def _listed(self) -> list[Path]:
        """The list's videos; train lists carry a class number behind each name."""
        file = self._list_file()
        listed = [Path(self.root) / line.split()[0] for line in read_text(file).splitlines() if line.strip()]
        missing = [path for path in listed if not os.path.lexists(path)]
        if missing:
            raise ValueError(f"{file}: {len(missing)} of {len(listed)} videos are missing, the first {missing[0]}")
        return sorted(listed, key=natural_key)

    def _list_file(self) -> Path:
        root = Path(self.root)
        folders = [Path(self.lists)] if self.lists else [root / LISTS, root.parent / LISTS]
        name = f"{self.split.value}list{self.fold:02}.txt"
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        where = " or ".join(map(str, folders))
        raise ValueError(f"dataset.split={self.split.value}: {name} is not in {where}; give dataset.lists")
