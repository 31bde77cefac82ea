"""Every named protocol loads, is what its name says, and is the same for run.py and for the command line."""

import pytest

from metrics import protocols
from metrics.options import ClipChoice, Prompts
from metrics.protocols import PROTOCOLS, load_protocol

NAMES = sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_a_protocol_of_its_own_name(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    assert load_protocol(PROTOCOLS / f"{name}.yaml") == protocol


def test_the_named_ones_are_there():
    assert {"tiny", "styleganv_fvd2048", "latte_release", "zero_shot_ucf_10k", "viditq_101"} <= set(NAMES)
    counts = {name: load_protocol(name).n_videos for name in NAMES}
    assert (counts["styleganv_fvd2048"], counts["zero_shot_ucf_10k"], counts["viditq_101"]) == (2048, 10_000, 101)
    assert load_protocol("styleganv_fvd2048").choice is ClipChoice.first
    assert load_protocol("msrvtt_2990").prompts is Prompts.captions


def test_references_are_strided_but_generated_clips_are_not():
    latte = load_protocol("latte_release")
    assert (latte.reference_rule.span, latte.generated_rule.span) == (46, 16)
    assert latte.reference_rule.random_start and not latte.generated_rule.random_start
    assert latte.reference_rule.resize is latte.generated_rule.resize


def test_run_py_builds_the_same_object():
    from experiments.attributes import compose_run_config

    words = ["protocol=latte_release", "model.num_frames=16"]
    assert compose_run_config(words).protocol == load_protocol("latte_release")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colour: red", "protocol.colour: no such option; allowed are name, n_videos"),
        ("choice: last", "protocol.choice=last: allowed are first, random, windows"),
        ("stride: 0", "protocol.stride=0: must be at least 1"),
        ("extractor: c3d", "protocol.extractor=c3d: allowed are styleganv"),
        ("extractor_weights: /nowhere", "protocol.extractor_weights=/nowhere: no such file"),
        ("n_videos: 7", "protocol.n_videos=7: must be at least min_videos=8"),
        ("n_videos: many", "not supported between"),
    ],
)
def test_bad_values(tmp_path, line, message):
    base = {"name": "x", "n_videos": "8", "min_videos": "8", "num_frames": "4", "resolution": "8"}
    key, _, value = line.partition(": ")
    file = tmp_path / "x.yaml"
    file.write_text("\n".join(f"{k}: {v}" for k, v in {**base, key: value}.items()))
    with pytest.raises(ValueError, match=message):
        load_protocol(file)


def test_a_missing_key_names_itself(tmp_path):
    (tmp_path / "x.yaml").write_text("name: x\n")
    with pytest.raises(
        ValueError, match=r"x\.yaml: lacks n_videos, min_videos, num_frames, resolution, which a protocol must say"
    ):
        load_protocol(tmp_path / "x.yaml")


def test_an_installed_package_says_where_protocols_are(tmp_path, monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", tmp_path / "conf")
    with pytest.raises(ValueError, match="give the path of a yaml file, or run from the repository"):
        load_protocol("tiny")
