"""Prompts that are longer than a text encoder reads, and prompts that nothing can be drawn for."""

import json
from dataclasses import replace

import pytest

from experiments.attributes import compose_run_config
from experiments.prompts import check_prompts
from experiments.record import arm_from_record, arm_record
from experiments.report.html import write_report
from experiments.report.table import build_table
from experiments.result import CutPrompts
from metrics.clipsim import ClipScorer
from qvd.models.texts import cut_prompts

SHORT = "a red circle growing on a plain background"
LONG = [f"{SHORT} {' '.join(['and again'] * 20)} {end}" for end in ("left", "right")]
LIMITS = {"tiny_modelscope": 16, "tiny_animatediff": 16, "tiny_latte": 12}


def run_of(tmp_path, prompts, *words):
    (tmp_path / "mine.json").write_text(json.dumps(prompts))
    return compose_run_config(["dataset=prompts", f"dataset.file={tmp_path}/mine.json", *words])


@pytest.mark.parametrize("model", LIMITS)
def test_the_families_limits(model):
    adapter = compose_run_config([f"model={model}"]).model
    assert cut_prompts(adapter, [SHORT, LONG[0], LONG[1], LONG[0]]) == (LIMITS[model], LONG)


def test_the_limit_is_where_the_tokenizer_cuts():
    """One token more is cut, none less."""
    adapter = compose_run_config([]).model
    words = [f"{'circle ' * count}".strip() for count in range(12, 17)]
    limit, cut = cut_prompts(adapter, words)
    assert [len(prompt.split()) for prompt in cut] == [15, 16] and limit == 16, "two tokens are start and end"


def test_what_reads_no_text_cuts_none():
    assert cut_prompts(compose_run_config(["model=tiny_latte_cc"]).model, LONG) == (0, [])
    assert cut_prompts(compose_run_config(["model=modelscope", "model.init=random"]).model, LONG) == (0, [])


def test_a_runs_prompts_are_counted_and_named_once(tmp_path):
    encoder, clip = check_prompts(run_of(tmp_path, [SHORT, *LONG]))
    assert (encoder.limit, encoder.total, list(encoder.prompts)) == (16, 3, LONG)
    assert clip.reader == "CLIPSIM's text encoder" and list(clip.prompts) == LONG
    assert encoder.note.startswith("2 of 3 prompts are longer than the 16 tokens that the model's text encoder reads, ")
    assert len(encoder.note) < 350 and encoder.note.count(SHORT) == 2
    assert not check_prompts(compose_run_config([])), "the captions of shapes are short"


def test_the_negative_prompt_is_read_too(tmp_path):
    (encoder,) = check_prompts(run_of(tmp_path, [SHORT], f"model.negative_prompt='{LONG[0]}'"))
    assert (encoder.total, list(encoder.prompts)) == (2, LONG[:1])


def test_a_scorer_tells_what_it_cuts():
    assert ClipScorer.from_pretrained("shapes_clip").cut_prompts([SHORT, *LONG]) == LONG


def test_a_prompt_without_a_class_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match="prompt 'a cat' names none of the model's 280 classes"):
        check_prompts(run_of(tmp_path, ["red circle growing", "a cat"], "model=tiny_latte_cc"))


def test_table_report_and_record_say_it_once(arms, tmp_path):
    cut = CutPrompts("CLIPSIM's text encoder", 77, 9, ["<a> & [b]"])
    told = [replace(arm, prompts_cut=(cut,)) for arm in arms]
    assert [note for note in build_table(told).notes if "prompts are longer" in note] == [f"{cut.note}."]
    assert write_report(told, tmp_path, "", {}).read_text().count("&lt;a&gt; &amp; [b]") == 1
    record = json.loads(json.dumps(arm_record(told[0])))
    assert arm_from_record(record).prompts_cut == (cut,)
    assert "prompts_cut" not in arm_record(arms[0])
