"""What is a video in a folder as people have it, and what is left out and why."""

import os

import pytest

from metrics.files.tree import find_frame_folders, find_video_files, find_videos, frame_files, sub_folders, words


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(listing, root):
    return [path.relative_to(root).as_posix() for path in listing.paths]


def test_files_and_folders_of_frames_in_natural_order(tmp_path):
    touch(tmp_path, "b/10.MP4", "b/9.avi", "c10/1.png", "c9/1.TIFF", "c9/2.tiff", "notes.txt")
    listing = find_videos(tmp_path)
    assert names(listing, tmp_path) == ["b/9.avi", "b/10.MP4", "c9", "c10"]
    assert listing.left_out == {"no video by its name": 1}
    assert names(find_video_files(tmp_path), tmp_path) == ["b/9.avi", "b/10.MP4"]
    assert names(find_frame_folders(tmp_path), tmp_path) == ["c9", "c10"]
    assert find_video_files(tmp_path).left_out == {"no video by its name": 4}


@pytest.mark.parametrize("find", [find_videos, find_video_files])
def test_what_systems_leave_behind_is_counted_not_listed(tmp_path, find):
    touch(tmp_path, "a.mp4", ".DS_Store", "._a.mp4", "__MACOSX/._b.mp4", "__MACOSX/b.mp4", "Thumbs.db", ".git/c.mp4")
    listing = find(tmp_path)
    assert names(listing, tmp_path) == ["a.mp4"]
    assert listing.left_out == {"hidden": 3, "of the operating system": 2}
    assert words(listing.left_out) == "3 hidden, 2 of the operating system"


def test_a_file_beside_frames_changes_nothing(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "a/n_frames", "a/fps.txt", "a/Thumbs.db", "a/._1.png")
    listing = find_videos(tmp_path)
    assert names(listing, tmp_path) == ["a"]
    assert listing.left_out == {"beside frames": 2, "of the operating system": 1, "hidden": 1}
    assert [path.name for path in frame_files(tmp_path / "a")] == ["1.png", "2.png"]


def test_a_folder_of_frames_is_one_video_with_all_below_it(tmp_path):
    touch(tmp_path, "a/1.png", "a/masks/1.png", "a/empty.png/n", "b/c/1.png")
    for find in (find_videos, find_frame_folders):
        assert names(find(tmp_path), tmp_path) == ["a", "b/c"]
        assert find(tmp_path).left_out == {"beside frames": 2}


def test_pictures_beside_videos_are_listed_to_be_refused(tmp_path):
    touch(tmp_path, "a.mp4", "grid.png")
    assert names(find_videos(tmp_path), tmp_path) == ["a.mp4", "grid.png"]


def test_links_are_followed_to_files_and_folders_and_never_in_circles(tmp_path):
    root, pool = tmp_path / "root", tmp_path / "pool"
    touch(pool, "1.mp4", "2.mp4")
    touch(root, "own.mp4")
    (root / "linked").symlink_to(pool)
    (root / "3.mp4").symlink_to(pool / "1.mp4")
    (root / "back").symlink_to(root)
    (pool / "up").symlink_to(pool)
    (root / "self.mp4").symlink_to(root / "self.mp4")
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    (root / "clip").symlink_to(root / "nowhere")
    listing = find_videos(root)
    assert names(listing, root) == [
        *("3.mp4", "clip", "gone.mp4", "linked/1.mp4", "linked/2.mp4", "own.mp4", "self.mp4"),
    ]
    assert listing.left_out == {"linked to a folder above": 2}


def test_a_pipe_is_not_waited_for(tmp_path):
    touch(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "b.mp4")
    (tmp_path / "c.mp4").symlink_to(tmp_path / "b.mp4")
    assert names(find_videos(tmp_path), tmp_path) == ["a.mp4"]
    assert find_videos(tmp_path).left_out == {"no file": 2}


def test_frames_are_in_natural_order_whatever_lies_beside_them(tmp_path):
    touch(tmp_path, "frame10.png", "frame9.png", "frame100.tif", "notes.txt", ".hidden.png", "masks.png/1.png")
    assert [file.name for file in frame_files(tmp_path)] == ["frame9.png", "frame10.png", "frame100.tif"]


def test_sub_folders(tmp_path):
    touch(tmp_path, "b10/a", "b9/a", ".git/a", "__MACOSX/a", "file")
    assert [path.name for path in sub_folders(tmp_path)] == ["b9", "b10"]


def test_nothing_to_find_is_said(tmp_path):
    touch(tmp_path, "here/notes.txt", "here/.DS_Store")
    (tmp_path / "empty").mkdir()
    for folder, message in (
        ("nowhere", "nowhere: no such folder"),
        ("here/notes.txt", "notes.txt: not a folder"),
        ("empty", r"no video or folder of frames in it \(looked for \.3gp, .*; it is empty\)"),
        ("here", r"looked for .*; found 1 hidden, 1 no video by its name\)"),
    ):
        with pytest.raises(ValueError, match=message):
            find_videos(tmp_path / folder)
