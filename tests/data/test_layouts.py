"""UCF-101, MSR-VTT and the datasets of frames, each in its own layout."""

import json

import pytest

from qvd.data.frames import FrameFolders
from qvd.data.msrvtt import MSRVTT, TEST_IDS
from qvd.data.ucf101 import UCF101, Split
from qvd.data.ucf101_sentences import SENTENCES


class TestUCF101:
    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "UCF-101"
        for name in ("YoYo/v_YoYo_g01_c01.avi", "ApplyLipstick/v_ApplyLipstick_g01_c01.avi", "YoYo/v_YoYo_g02_c01.avi"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        lists = tmp_path / "ucfTrainTestlist"
        lists.mkdir()
        (lists / "trainlist02.txt").write_text(
            "YoYo/v_YoYo_g02_c01.avi 101\nApplyLipstick/v_ApplyLipstick_g01_c01.avi 2\n"
        )
        (lists / "testlist02.txt").write_text("YoYo/v_YoYo_g01_c01.avi\n")
        return root

    def test_all_videos_with_their_class_sentences(self, root):
        dataset = UCF101(root=str(root))
        assert [video.path.name[:-4] for video in dataset.videos] == [
            "v_ApplyLipstick_g01_c01",
            "v_YoYo_g01_c01",
            "v_YoYo_g02_c01",
        ]
        assert dataset.classes == [SENTENCES["ApplyLipstick"], SENTENCES["YoYo"]]
        assert dataset.describe() == "ucf101/all (3 videos)"

    def test_official_lists(self, root):
        train, test = (UCF101(root=str(root), split=split, fold=2) for split in (Split.train, Split.test))
        assert [video.path.parent.name for video in train.videos] == ["ApplyLipstick", "YoYo"]
        assert [video.path.name for video in test.videos] == ["v_YoYo_g01_c01.avi"]
        assert train.describe() == "ucf101/train02 (2 videos)"

    def test_what_is_missing_is_named(self, root):
        (root / "YoYo" / "v_YoYo_g01_c01.avi").unlink()
        with pytest.raises(ValueError, match=r"testlist02\.txt: 1 of 1 videos are missing, the first .*v_YoYo_g01_c01"):
            _ = UCF101(root=str(root), split=Split.test, fold=2).videos
        with pytest.raises(ValueError, match=r"trainlist01\.txt is not in .*; give dataset\.lists"):
            UCF101(root=str(root), split=Split.train)
        with pytest.raises(ValueError, match=r"dataset\.fold=4: allowed are 1, 2, 3"):
            UCF101(root=str(root), fold=4)
        (root / "YoYo").rename(root / "YoYos")
        with pytest.raises(ValueError, match=r"YoYos: not a class of UCF-101 \(did you mean YoYo\?\)"):
            _ = UCF101(root=str(root)).videos

    def test_there_is_one_sentence_for_each_of_the_101_classes(self):
        assert len(SENTENCES) == len(set(SENTENCES.values())) == 101


class TestMSRVTT:
    def make(self, tmp_path, numbers=TEST_IDS, captions_of=(3, *TEST_IDS), **options):
        for number in (*numbers, 3):
            (tmp_path / f"video{number}.mp4").touch()
        sentences = [{"video_id": f"video{n}", "caption": f"{n} {i}"} for n in captions_of for i in range(20)]
        (tmp_path / "data.json").write_text(json.dumps({"sentences": sentences}))
        return MSRVTT(root=str(tmp_path), annotations=str(tmp_path / "data.json"), **options)

    def test_the_2990_test_videos_have_one_frozen_caption_each(self, tmp_path):
        videos = self.make(tmp_path).videos
        assert len(videos) == 2990 and videos[0].path.name == "video7010.mp4"
        assert all(video.caption.split()[0] == video.path.stem[5:] for video in videos)
        positions = [video.caption.split()[1] for video in videos]
        assert positions[:8] == ["8", "7", "9", "5", "4", "14", "13", "15"]  # the draw itself: it must never change
        assert len(set(positions)) == 20

    def test_calibration_prompts_are_of_other_videos(self, tmp_path):
        dataset = self.make(tmp_path)
        assert [dataset.prompt(i, "calibration") for i in (0, 19, 20)] == ["3 0", "3 19", "3 0"]

    def test_a_test_only_json_calibrates_on_captions_that_were_not_drawn(self, tmp_path):
        dataset = self.make(tmp_path, captions_of=TEST_IDS)
        drawn = {video.caption for video in dataset.videos}
        assert len(dataset.calibration_captions()) == 19 * 2990
        assert not drawn & set(dataset.calibration_captions())

    def test_missing_videos_are_counted(self, tmp_path):
        dataset = self.make(tmp_path, numbers=TEST_IDS[5:])
        with pytest.raises(ValueError, match=r"5 of the 2990 test videos are missing, the first video7010\.mp4"):
            _ = dataset.videos
        skipping = MSRVTT(root=dataset.root, annotations=dataset.annotations, skip_bad=True)
        assert skipping.describe() == "msrvtt/test (2985 videos)"

    def test_a_wrong_json_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"no caption of 1 test videos, the first video9999"):
            _ = self.make(tmp_path, captions_of=TEST_IDS[:-1]).videos
        (tmp_path / "data.json").write_text('{"videos": []}')
        with pytest.raises(ValueError, match=r"data\.json: not MSR-VTT's json"):
            _ = MSRVTT(root=str(tmp_path), annotations=str(tmp_path / "data.json")).videos


class TestFrameFolders:
    def test_every_folder_of_images_of_the_split(self, tmp_path):
        for name in ("sky_train/b/clip_2/0.jpg", "sky_train/b/clip_1/0.jpg", "sky_train/a/0.png", "sky_test/c/0.jpg"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).touch()
        dataset = FrameFolders(root=str(tmp_path), name="skytimelapse", split="sky_train", caption="the sky")
        paths = [video.path.relative_to(tmp_path).as_posix() for video in dataset.videos]
        assert paths == ["sky_train/a", "sky_train/b/clip_1", "sky_train/b/clip_2"]
        assert dataset.prompt(7) == "the sky" and dataset.describe() == "skytimelapse/sky_train (3 videos)"
        with pytest.raises(
            ValueError, match=r"dataset\.split=train: no such folder in .*, which has sky_test, sky_train"
        ):
            FrameFolders(root=str(tmp_path), split="train")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="no folder of frames in it"):
            _ = FrameFolders(root=str(tmp_path), split="empty").videos
