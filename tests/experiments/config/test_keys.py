"""A key that no config has is refused in one line with the nearest that is there, whatever stands before it."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.attributes import compose_run_config
from experiments.config import groups
from experiments.config.keys import check_words

ROOT = Path(__file__).parents[3]
WRONG = [
    ("n_video=65", "n_video=65: no such option; did you mean n_videos?"),
    ("num_steps=5", "num_steps=5: no such option; did you mean quantizer.calibration.num_steps?"),
    ("guidance_scale=3", "guidance_scale=3: no such option; did you mean model.guidance_scale?"),
    ("model.dtpye=float16", "model.dtpye=float16: no such option of model=tiny_modelscope; did you mean model.dtype?"),
    ("quantizer.calibration.num_step=1", "did you mean quantizer.calibration.num_steps?"),
    ("dataset.root=/data", "dataset.root=/data: no such option of dataset=shapes; allowed are split, resolution"),
    ("optimizer=adam", "optimizer=adam: no such option; allowed are model, quantizer"),
    ("experiment.arm=[]", "experiment.arm=[]: no such option of experiment=single; did you mean experiment.arms?"),
    ("export.video=all", "did you mean export.videos?"),
]


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(("word", "message"), WRONG)
def test_an_unknown_key_is_refused_with_and_without_a_plus(word, message, plus):
    with pytest.raises(ValueError) as error:
        compose_run_config([plus + word])
    said = str(error.value)
    if not (plus and word.startswith(("model.", "quantizer.", "dataset.", "export."))):  # there its fields say it
        assert message in said
    assert said.startswith(word.partition("=")[0]) and "\n" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+model.foo=1"], r"model\.foo=1: no such option; allowed are path"),
        (["++quantizer.foo=1"], r"quantizer\.foo=1: no such option; allowed are name"),
        (["+quantizer.calibration.num_step=1"], r"calibration\.num_step=1: no such option; .*mean num_steps\?"),
        (["+seed=1"], r"\+seed=1: it is there already; write seed=1"),
        (["+model=tiny_latte"], r"\+model=tiny_latte: there is one already; write model=tiny_latte"),
        (["++model=tiny_latte"], r"\+\+model=tiny_latte: there is one already"),
        (["model@other=tiny_latte"], "model@other=tiny_latte: there is one already"),
        (["seed@other=1"], "seed@other=1: no such option"),
        (["model.path.x=3"], r"model\.path\.x=3: model\.path is no group of options"),
        (["+model.path.x=3"], r"\+model\.path\.x=3: model\.path is no group of options"),
        (["experiment=demo", "experiment.arms.9.bits=fp"], r"experiment\.arms has 5 entries, counted from 0"),
        (["~seed"], "~seed: an option can be set, not deleted"),
        (["~model.dtype"], r"~model\.dtype: an option can be set"),
        (["experiment=demo", "~experiment.arms.0"], r"~experiment\.arms\.0: an option can be set"),
        (["~nothing"], "~nothing: an option can be set"),
        (["model={path: x}"], "model=.*: allowed are animatediff"),
        (["export=5"], "export=5: must be a group of options"),
        (["model=tiny_latte,tiny_latte_cc", "model.classes=shapes"], "no such option of model=tiny_latte; "),
    ],
)
def test_keys_that_are_refused(words, message):
    with pytest.raises(ValueError, match=message) as error:
        compose_run_config(words)
    assert "\n" not in str(error.value)


def test_what_sets_an_option_is_taken():
    assert compose_run_config(["++seed=3"]).seed == 3
    assert len(compose_run_config(["experiment=demo", "experiment.arms.0.bits=fp"]).arms) == 5
    check_words(["model=tiny_latte,tiny_modelscope", "model.guidance_scale=1,2", "hydra.sweep.dir=x", "hydra/help=y"])
    check_words(["experiment=disparity", "model.disparity=1"])


def test_a_plus_sets_a_field_that_a_short_yaml_leaves_out(tmp_path, monkeypatch):
    import shutil

    shutil.copytree(groups.CONF, tmp_path / "conf")
    (tmp_path / "conf" / "quantizer" / "short.yaml").write_text(
        "_target_: baselines.naive.Naive\n_options_: baselines.options.NaiveOptions\nname: short\n"
    )
    monkeypatch.setattr(groups, "CONF", tmp_path / "conf")
    assert compose_run_config(["quantizer=short", "+quantizer.p_norm=3"]).arms[0].options.p_norm == 3


@pytest.mark.parametrize("word", ["n_video=65", "+n_video=65", "++num_step=5", "~seed"])
def test_on_the_command_line_it_is_one_line(word):
    done = subprocess.run([sys.executable, "run.py", word], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ") and not done.stdout
