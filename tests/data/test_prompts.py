"""A user's own prompts, in the forms that people keep them in."""

import json

import pytest

from qvd.data.prompts import PromptFile

PROMPTS = ["a cat, asleep", "ein Käfer", "a dog"]
FORMS = {
    "lines.txt": "\n".join(PROMPTS) + "\n",
    "windows.txt": "\ufeff" + "\r\n".join(PROMPTS),
    "list.json": json.dumps(PROMPTS),
    "vbench.json": json.dumps([{"prompt_en": prompt, "dimension": ["motion"]} for prompt in PROMPTS]),
    "named.json": json.dumps({f"{i}.mp4": prompt for i, prompt in enumerate(PROMPTS)}),
    "lines.jsonl": "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS),
    "table.csv": 'id,prompt\n1,"a cat, asleep"\n2,ein Käfer\n3,a dog\n',
    "table.tsv": "prompt\na cat, asleep\nein Käfer\na dog\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_in_its_order(tmp_path, form):
    (tmp_path / form).write_bytes(FORMS[form].encode())
    dataset = PromptFile(str(tmp_path / form), videos_per_prompt=2)
    assert dataset.prompts == PROMPTS and dataset.n_videos == 6
    assert [dataset.prompt(index) for index in range(4)] == [*PROMPTS, PROMPTS[0]]
    assert dataset.prompt(1, "calibration") == PROMPTS[1]
    assert dataset.describe() == f"none (prompts of {form}, 3)"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "dataset.file=.*empty.txt"),
        ("table.csv", "a,b\n1,2\n", "dataset.file=.*no column of captions"),
        ("prompts.md", "a cat", "dataset.file=.*ends in one of"),
        ("half.json", '["\\ud800"]', "dataset.file="),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        PromptFile(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ValueError, match=r"dataset\.file=/nowhere\.txt: no such file"):
        PromptFile("/nowhere.txt")


def test_at_least_one_video_each(tmp_path):
    (tmp_path / "one.txt").write_text("a cat")
    with pytest.raises(ValueError, match=r"dataset\.videos_per_prompt=0: must be at least 1"):
        PromptFile(str(tmp_path / "one.txt"), 0)
