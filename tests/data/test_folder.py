import pytest

from qvd.data.folder import VideoFolder


@pytest.fixture
def root(tmp_path):
    for name in ("ApplyLipstick/v_01.avi", "ApplyLipstick/v_02.avi", "YoYo/v_01.mp4", "notes.txt", "top_level.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_videos_in_name_order_with_class_words(root):
    videos = VideoFolder(root=str(root)).videos
    assert [video.path.relative_to(root).as_posix() for video in videos] == [
        "ApplyLipstick/v_01.avi",
        "ApplyLipstick/v_02.avi",
        "YoYo/v_01.mp4",
        "top_level.mp4",
    ]
    assert [video.caption for video in videos] == ["apply lipstick", "apply lipstick", "yo yo", "top level"]


def test_prompts_are_the_classes_in_turn(root):
    folder = VideoFolder(root=str(root))
    assert [folder.prompt(i) for i in range(4)] == ["apply lipstick", "yo yo", "top level", "apply lipstick"]
    assert folder.describe() == f"folder {root.name} (4 videos)"


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        VideoFolder(root=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no video in it"):
        _ = VideoFolder(root=str(tmp_path)).videos
