"""The command line's words: everything that Hydra takes, and one line for the rest, with the form that works."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.config.keys import check_words

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "word",
    [
        "model=glob(tiny*)",
        "model=glob([tiny*, latte*], exclude=*cc)",
        "quantizer=choice(naive,qvd)",
        "quantizer=sort(qvd, naive)",
        "quantizer='qvd'",
        'quantizer="qvd","naive"',
        "quantizer=tag(t, choice(naive,qvd))",
        'dataset.root="/data/ä [x] = ~"',
    ],
)
def test_what_hydra_takes_is_not_refused(word):
    check_words(["dataset=folder", word])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model=glob(huge*)", r"model=glob\(huge\*\): matches none; allowed are animatediff"),
        ("quantizer=choice(naive,qdv)", r"quantizer=qdv: .*did you mean qvd\?"),
        ("quantizer='nope'", "quantizer=nope: allowed are"),
        ("quantizer=null", "quantizer=null: allowed are"),
        ("quantizer=", "quantizer=: allowed are"),
        ("~quantizer", "~quantizer: a run needs one; allowed are fp"),
        ("model", "model: no value; words are key=value"),
        ("sèed=1", "no key"),
        ("experiment.arms=[{variant: größe}]", "not a list or mapping"),
    ],
)
def test_bad_words(word, message):
    with pytest.raises(ValueError, match=message) as error:
        check_words([word])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["/data/Vidéos", "~/clips", "a=b", "clips[1]", "it's", 'a"b~', "a{b", "ends~\\"])
def test_the_quoted_form_is_printed_and_works(value):
    with pytest.raises(ValueError) as error:
        check_words([f"dataset.root={value}"])
    assert "\n" not in str(error.value)
    (word,) = shlex.split(str(error.value).partition("; write ")[2])
    assert OverridesParser.create().parse_override(word).value() == value


def test_flags_are_hydras_own():
    words = ["--multirun", "--config-dir", "tests", "dataset.root=ä"]
    done = subprocess.run([sys.executable, "run.py", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: dataset.root=ä: Hydra reads") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("word", ["quantizer=naive,qvd", "seed=range(3)", "model.negative_prompt=a, b"])
def test_several_values_are_for_a_sweep(word):
    check_words([word])
    check_words([word, "hydra.mode=MULTIRUN"], is_sweep=False)
    with pytest.raises(ValueError, match="several values are a sweep, with --multirun") as error:
        check_words([word], is_sweep=False)
    advice = str(error.value).partition("; for one text write ")[2]
    assert bool(advice) == ("." in word or "(" in word)
    if "negative" in word:
        check_words(shlex.split(advice), is_sweep=False)
