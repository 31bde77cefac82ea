"""A config's classes are this project's or of packages that the command line names; nothing else is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.attributes import compose_run_config

ROOT = Path(__file__).parents[3]
OPTIONS = "qvd.options.qvd.QVDOptions"


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    (tmp_path / "foreign.py").write_text(
        f"open({str(tmp_path / 'mark')!r}, 'w').close()\nfrom baselines.naive import Naive\nclass Mine(Naive): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mark"
    sys.modules.pop("foreign", None)


WORDS = [
    *(f"{group}._target_=foreign.Mine" for group in ("model", "quantizer", "dataset", "protocol", "backend", "engine")),
    *("tracking._target_=foreign.Mine", "export._target_=foreign.Mine", "quantizer._options_=foreign.Mine"),
    "experiment.arms=[{quantizer: naive, bits: w8a8, options: {_target_: foreign.Mine}}]",
    "+hydra.callbacks.mine._target_=foreign.Mine",
    "+hydra.callbacks={mine: {_target_: foreign.Mine}}",
    "hydra.launcher._target_=foreign.Mine",
    "hydra.job_logging.handlers.file.class=foreign.Mine",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_foreign_class_is_refused_before_it_is_imported(word, foreign):
    with pytest.raises(ValueError, match=r"foreign is no package of this project; .* trusted=\[foreign\]") as error:
        compose_run_config([word])
    assert "\n" not in str(error.value) and not foreign.exists()


@pytest.mark.parametrize("word", ["quantizer._target_=foreign.Mine", "+hydra.callbacks.mine._target_=foreign.Mine"])
def test_nor_by_the_command(word, foreign):
    environment = {"PYTHONPATH": str(foreign.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "run.py", word], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "foreign is no package" in done.stderr and not foreign.exists()


def test_a_package_that_the_command_line_trusts_is_used(foreign):
    words = ["quantizer=naive", "quantizer._target_=foreign.Mine", "trusted=[foreign]"]
    assert type(compose_run_config(words).arms[0].method).__name__ == "Mine" and foreign.exists()


def test_a_config_cannot_trust_for_its_user(foreign, tmp_path, monkeypatch):
    import shutil

    from experiments.config import groups

    shutil.copytree(groups.CONF, tmp_path / "conf")
    (tmp_path / "conf" / "experiment" / "stranger.yaml").write_text(
        "# @package _global_\ntrusted: [foreign]\nexperiment: {name: stranger, arms: []}\n"
        "quantizer: {_target_: foreign.Mine}\n"
    )
    monkeypatch.setattr(groups, "CONF", tmp_path / "conf")
    with pytest.raises(ValueError, match="packages are trusted on the command line alone"):
        compose_run_config(["experiment=stranger"])
    assert not foreign.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantizer._target_=null"], r"quantizer\._target_=None: must be a class, as in"),
        (["quantizer._target_=os"], r"quantizer\._target_=os: must be a class"),
        (["quantizer._target_=[1]"], r"quantizer\._target_=\[1\]: must be a class"),
        (["quantizer._options_=baselines.nothing.M"], r"no such class \(No module named 'baselines\.nothing'\)"),
        (["quantizer._options_=baselines.naive.Nive"], r"no such class .*has no attribute 'Nive'"),
        (["quantizer._options_=experiments.provenance.subprocess"], "no such class|must be a class"),
        (["quantizer._options_=experiments.sweep.Path"], r"_options_=pathlib\.Path: pathlib is no package"),
        (["quantizer._options_=qvd.options.model.ModelOptions"], "ModelOptions: must extend MethodOptions"),
        (["trusted=foreign"], r"trusted=foreign: must be a list of packages"),
        (["trusted=[a.b]"], r"must be a list of packages"),
    ],
)
def test_what_is_no_class_of_the_right_kind(words, message):
    with pytest.raises(ValueError, match=message) as error:
        compose_run_config(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("baselines.naive.Naive", "does not extend QVDOptions"),
        ("qvd.methods.nothing.QVD", "no such class"),
        ("experiments.provenance.subprocess.Popen", "no such class"),
        ("qvd.methods.base.PTQMethod", "must be a class that objects can be made of"),
    ],
)
def test_a_heavy_target_is_judged_when_it_is_built(target, message):
    arm = compose_run_config([f"quantizer._target_={target}"]).arms[0]
    with pytest.raises(ValueError, match=rf"quantizer\._target_=\S+: .*{message}"):
        arm.choice.build()
