"""UCF-101, MSR-VTT and the datasets of frames, each in its own layout."""

import json

import pytest

from qvd.data.folder import VideoFolder
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
        with pytest.raises(ValueError, match=r"data\.json: videos: its caption is None; it must be text"):
            _ = MSRVTT(root=str(tmp_path), annotations=str(tmp_path / "data.json")).videos


class TestMSRVTTVariants:
    """Copies of videos and annotations as they go around; videos 7010 and 7011 alone."""

    def make(self, tmp_path, annotations, name="data.json", files=("video7010.mp4", "video7011.mp4")):
        for file in files:
            (tmp_path / "videos" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "videos" / file).touch()
        text = annotations if isinstance(annotations, str) else json.dumps(annotations)
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        return MSRVTT(root=str(tmp_path / "videos"), annotations=str(tmp_path / name), skip_bad=True)

    @pytest.mark.parametrize(
        ("annotations", "name"),
        [
            ({"sentences": [{"video_id": 7010, "caption": "a"}, {"video_id": 7011, "caption": "b"}]}, "ids.json"),
            ([{"video": "video7010.mp4", "caption": "a"}, {"video": "video7011.mp4", "caption": "b"}], "list.json"),
            ([{"video_id": "video7010", "caption": ["a"]}, {"video_id": "video7011", "caption": ["b"]}], "hub.json"),
            ({"annotations": [{"image_id": f"video{7010 + i}", "caption": "ab"[i]} for i in (0, 1)]}, "coco.json"),
            ({"video7010": ["a"], "video7011": ["b"]}, "object.json"),
            ("key,vid_key,video_id,sentence\nret0,msr7010,video7010,a\nret1,msr7011,video7011,b\n", "JSFUSION.csv"),
        ],
    )
    def test_one_caption_for_each_test_video(self, tmp_path, annotations, name):
        """Nothing is left for calibration but the captions of the evaluation, and that is said."""
        dataset = self.make(tmp_path, annotations, name)
        assert [video.caption for video in dataset.videos] == ["a", "b"]
        with pytest.warns(UserWarning, match="calibration is prompted with the captions of the evaluation") as said:
            assert [dataset.prompt(i, "calibration") for i in range(3)] == ["a", "b", "a"]
        assert len(said) == 1

    def test_lists_of_captions_are_drawn_from_like_sentences(self, tmp_path):
        captions = {n: [f"{n} {i}" for i in range(20)] for n in (7010, 7011)}
        lists = self.make(tmp_path, [{"video_id": f"video{n}", "caption": texts} for n, texts in captions.items()])
        sentences = [{"video_id": f"video{n}", "caption": text} for n, texts in captions.items() for text in texts]
        assert self.make(tmp_path, {"sentences": sentences}, "sentences.json").videos == lists.videos

    def test_copies_in_other_containers(self, tmp_path):
        files = ("a/video7010.MP4", "b/video7011.webm", "b/video7012.avi", "video3.mp4", "._video7013.mp4")
        dataset = self.make(tmp_path, {f"video{n}": "a" for n in range(7010, 7020)}, files=files)
        assert [video.path.name for video in dataset.videos] == ["video7010.MP4", "video7011.webm", "video7012.avi"]
        assert dataset.listing.left_out == {"hidden": 1, "of another part": 1}

    def test_two_files_of_one_video_are_refused_unless_one_links_to_the_other(self, tmp_path):
        dataset = self.make(tmp_path, {"video7010": "a"}, files=("a/video7010.mp4",))
        (tmp_path / "videos" / "b").symlink_to(tmp_path / "videos" / "a")
        assert [video.path.parent.name for video in dataset.videos] == ["a"]
        other = self.make(tmp_path, {"video7010": "a"}, files=("c/video7010.avi",))
        with pytest.raises(ValueError, match=r"two files of video7010, .*a/video7010\.mp4 and .*c/video7010\.avi"):
            _ = other.videos

    @pytest.mark.parametrize(
        ("annotations", "message"),
        [
            ([{"video_id": "video7010", "caption": None}], r"entry 0, video video7010: its caption is None"),
            ([{"video_id": "clip_1", "caption": "a"}], r"not MSR-VTT's, whose videos are video0 to video9999: clip_1"),
            (["a", "b"], r"not MSR-VTT's, .*: a caption without its video"),
        ],
    )
    def test_what_cannot_be_used_is_refused_before_anything_is_computed(self, tmp_path, annotations, message):
        with pytest.raises(ValueError, match=message):
            _ = self.make(tmp_path, annotations).videos


@pytest.mark.parametrize("kind", ["folder", "frames", "ucf101"])
def test_every_dataset_walks_alike(tmp_path, kind):
    """Natural order, through links, past what systems leave behind, which is counted."""
    root, suffix = tmp_path / "root", "/0.png" if kind == "frames" else ".avi"
    pool = [tmp_path / "pool" / f"v_{i}{suffix}" for i in (1, 2, 10)]
    left = [root / "YoYo" / name for name in (".DS_Store", f"._v_1{suffix}")] + [root / "__MACOSX" / "YoYo" / "1.avi"]
    for path in (*pool, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "Archery").symlink_to(tmp_path / "pool")
    made = {"folder": VideoFolder, "frames": FrameFolders, "ucf101": UCF101}[kind](root=str(root))
    assert [video.path.relative_to(root).as_posix() for video in made.videos] == [
        f"Archery/v_{i}{suffix}".removesuffix("/0.png") for i in (1, 2, 10)
    ]
    assert {reason: count for reason, count in made.listing.left_out.items() if count} == {
        "hidden": 2,
        "of the operating system": 1,
    }


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
