"""Files of captions in every form that they come in."""

import pytest

from metrics.files.captions import read_captions

NAMED = [("a.mp4", ("one, two",)), ("b.mp4", ('a "b"',))]
FORMS = {
    "object.json": r'{"a.mp4": "one, two", "b.mp4": "a \"b\""}',
    "upper.JSON": r'{"a.mp4": "one, two", "b.mp4": "a \"b\""}',
    "lists.json": r'{"a.mp4": ["one, two"], "b.mp4": {"caption": "a \"b\""}}',
    "list.json": r'[{"video": "a.mp4", "caption": "one, two"}, {"file_name": "b.mp4", "text": "a \"b\""}]',
    "sentences.json": r'{"sentences": [{"video_id": "a.mp4", "caption": "one, two"},'
    r' {"video_id": "b.mp4", "caption": "a \"b\"", "sen_id": 1}]}',
    "lines.jsonl": '{"video": "a.mp4", "prompt": "one, two"}\n\n{"video": "b.mp4", "prompt": "a \\"b\\""}\n',
    "table.csv": 'video,caption\na.mp4,"one, two"\nb.mp4,"a ""b"""\n',
    "excel.csv": 'video;caption\na.mp4;"one, two"\nb.mp4;"a ""b"""\n',
    "names.csv": 'Video Name,caption\na.mp4,"one, two"\nb.mp4,"a ""b"""\n',
    "vbench.json": r'[{"prompt_en": "one, two", "video_list": ["a.mp4"]},'
    r' {"prompt_en": "a \"b\"", "video_list": ["b.mp4"]}]',
    "table.tsv": 'Prompt\tPath\tseed\none, two\ta.mp4\t1\n"a ""b"""\tb.mp4\t2\n',
}
ALONE = [(None, ("one",)), (None, ("two",))]
UNNAMED = {
    "lines.txt": "one\ntwo\n",
    "windows.txt": "one\r\ntwo\r\n\r\n",
    "list.json": '["one", "two"]',
    "lines.jsonl": '"one"\n"two"\n',
    "column.csv": "prompt\none\ntwo\n",
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "with a byte order mark"])
@pytest.mark.parametrize(("forms", "expected"), [(FORMS, NAMED), (UNNAMED, ALONE)], ids=["named", "alone"])
def test_forms(tmp_path, mark, forms, expected):
    for name, text in forms.items():
        (tmp_path / name).write_bytes(mark + text.encode())
        assert read_captions(tmp_path / name) == expected, name


def test_numbers_name_videos_and_a_video_may_have_several_captions(tmp_path):
    (tmp_path / "a.json").write_text('[{"video_id": 7010, "caption": ["one", "two"]}, {"video_id": 0, "caption": "x"}]')
    assert read_captions(tmp_path / "a.json") == [("7010", ("one", "two")), ("0", ("x",))]


def test_a_list_of_videos_is_an_entry_each(tmp_path):
    (tmp_path / "a.json").write_text('[{"prompt_en": "one", "video_list": ["./s/one-0.mp4", "./s/one-1.mp4"]}]')
    assert read_captions(tmp_path / "a.json") == [("./s/one-0.mp4", ("one",)), ("./s/one-1.mp4", ("one",))]


@pytest.mark.parametrize("space", ["\u2028", "\x0b", "\x85"])
def test_only_line_ends_end_a_line(tmp_path, space):
    (tmp_path / "a.txt").write_text(f"one{space}more\ntwo\n", encoding="utf-8")
    assert [captions for _, captions in read_captions(tmp_path / "a.txt")] == [(f"one{space}more",), ("two",)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.prompts", "one", r"a\.prompts: a file of captions ends in one of \.json, "),
        ("a.txt", "", r"a\.txt: line 1: its caption is ''"),
        ("a.txt", "one\n\ntwo", r"a\.txt: line 2: its caption is ''"),
        ("a.json", "{", r"a\.json: not json: "),
        ("a.json", "3", r"a\.json: must be an object or a list, got int"),
        ("a.json", "[]", r"a\.json: no caption in it"),
        ("a.json", '{"a": "one", "a": "two"}', r"a\.json: the key 'a' stands 2 times"),
        ("a.json", '{"a": null}', r"a\.json: a: its caption is None; it must be text"),
        ("a.json", '{"a": []}', r"a\.json: a: its caption is None"),
        ("a.json", '[{"video": "a", "caption": null}]', r"a\.json: entry 0, video a: its caption is None"),
        ("a.json", '[{"video": "a", "caption": 3}]', r"video a: its caption is 3"),
        (
            "a.json",
            '[{"video": [["a"]], "caption": "one"}]',
            r"entry 0: the video \[\['a'\]\]: must be a name or a num",
        ),
        ("a.json", '[{"video": true, "caption": "one"}]', r"entry 0: the video True: must be a name or a number"),
        (
            "a.csv",
            "caption,source\none,3.mp4\n",
            r"line 2: source \(3\.mp4\): if it names the video, it must be called one",
        ),
        (
            "a.csv",
            "caption,my_video\none,3\n",
            r"line 2: my_video \(3\): if it names the video, it must be called one of",
        ),
        ("a.csv", "video,caption,Caption\na.mp4,x,y\n", r"a\.csv: the column caption stands twice in its header"),
        ("a.json", '[{"video": "a"}]', r"entry 0, video a: has no caption; it must have exactly one of caption, "),
        ("a.json", '[{"video": "a", "caption": "x", "prompt": "y"}]', r"video a: has caption and prompt"),
        ("a.json", '["one", {"video": "b", "caption": "two"}]', r"some entries name their video and some do not"),
        ("a.jsonl", '"one"\n{', r"a\.jsonl: line 2: not json: "),
        ("a.csv", "a.mp4,one\n", r"a\.csv: no column of captions in its header \(a\.mp4, one\)"),
        ("a.csv", "video,caption\na.mp4,one, two\n", r"a\.csv: line 2 has more fields than the header's 2"),
        ("a.csv", "video,caption\na.mp4\n", r"a\.csv: line 2, video a\.mp4: its caption is None"),
        ("a.txt", b"\xff\xfeo\0n\0e\0", r"a\.txt: not UTF-8 text \(byte 0xff at 0\); save it as UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_captions(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_and_nothing_are_no_files(tmp_path):
    for path, message in ((tmp_path, "a folder, not a file"), (tmp_path / "a.txt", "no such file")):
        with pytest.raises(ValueError, match=message):
            read_captions(path)
