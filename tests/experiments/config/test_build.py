"""Every choice in conf/ builds; every kind of bad input gets one line that names it."""

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf

from experiments.attributes import compose_run_config
from experiments.config.build import CONF, GROUPS, check_group_choices
from qvd.options.bits import Bits
from qvd.options.scri import ScriMode


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in GROUPS for c in choices(g)])
def test_every_choice_builds(group, choice, dataset_words):
    extra = {"dataset": dataset_words.get(choice, []), "protocol": ["model.num_frames=16"], "model": []}.get(group, [])
    if group == "model" and not choice.startswith("tiny_"):
        extra = ["model.init=random"]  # their weights are on a hub
    run = compose_run_config([f"{group}={choice}", *extra])
    assert run.arms


def test_an_experiment_lists_its_arms():
    run = compose_run_config(["experiment=demo"])
    assert [(arm.quantizer, str(arm.bits)) for arm in run.arms] == [
        ("fp", "fp"),
        ("naive", "w8a8"),
        ("naive", "w4a8"),
        ("qvd", "w8a8"),
        ("qvd", "w4a8"),
    ]


def test_variants_at_several_bits_are_arms_of_their_own():
    arms = compose_run_config(["experiment=ablation_qvd"]).arms
    assert len(arms) == len({arm.name for arm in arms}) == 26
    assert arms[6].name == "HTDQ w4a8" and arms[6].method.scri is ScriMode.off
    assert arms[6].overrides == ("quantizer=qvd", "bits=w4a8", "quantizer.scri=off")
    repeated = compose_run_config(list(arms[6].overrides))
    assert repeated.arms[0].method == arms[6].method and repeated.arms[0].bits == arms[6].bits


def test_an_arm_may_have_its_own_number_of_videos():
    arms = compose_run_config(["experiment=ablation_qvd", "n_videos=70"]).arms
    assert {arm.n_videos for arm in arms[:-2]} == {70}
    assert arms[-1].name == "SCRI, N = 512 w6a6" and arms[-1].n_videos == 512
    assert compose_run_config(list(arms[-1].overrides)).arms[0].n_videos == 512


def test_workers_are_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert compose_run_config([]).workers == 4
    assert compose_run_config(["device=cuda"]).workers == 1
    assert compose_run_config(["model=modelscope", "model.init=random", "protocol=tiny"]).workers == 1
    assert compose_run_config(["device=cuda", "workers=3"]).workers == 3


def test_two_arms_of_one_name_are_refused():
    twice = "experiment.arms=[{quantizer: qvd, bits: w8a8}, {quantizer: qvd, bits: [w4a8, w8a8]}]"
    with pytest.raises(ValueError, match=r"experiment\.arms\[1\]: a second arm called qvd w8a8; give it a variant"):
        compose_run_config([twice])


@pytest.mark.parametrize("words", [["bits=fp"], ["quantizer=fp"], ["quantizer=fp", "bits=w4a8"]])
def test_either_word_asks_for_fp(words):
    (arm,) = compose_run_config(words).arms
    assert arm.quantizer == "fp" and arm.bits == Bits(None, None)


def test_n_videos_and_steps_follow_protocol_and_model():
    run = compose_run_config([])
    assert run.n_videos == run.protocol.n_videos
    assert run.num_inference_steps == run.model.num_inference_steps


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bits=w99a8"], r"bits=w99a8: allowed are fp, or w\{2..8\}a\{2..16\}"),
        (["n_videos=10"], "n_videos=10: must be an integer of at least 65"),
        (["seed=-1"], "seed=-1: must be an integer of at least 0"),
        (["device=tpu"], "device=tpu: allowed are cpu, cuda"),
        (["num_inference_steps=0"], "num_inference_steps=0: must be an integer of at least 1"),
        (["quantizer=nope"], "quantizer=nope: allowed are fp, naive, ptq4dm"),
        (["backend=simulate"], r"backend=simulate: allowed are .*simulated.* \(did you mean simulated\?\)"),
        (["+backend.threads=2"], r"backend\.threads=2: no such option"),
        (["quantizer=qdv"], r"quantizer=qdv: .*did you mean qvd\?"),
        (["quantizer.p_norm=0"], r"quantizer\.p_norm=0\.0: must be in"),
        (["quantizer.htdq=foo"], "quantizer.htdq: Invalid value 'foo', expected one of"),
        (["quantizer.calibration.num_steps=99"], r"num_steps=99: must lie in 1\.\.10"),
        (["+quantizer.colour=red"], "quantizer.colour=red: no such option; allowed are"),
        (["dataset=folder"], "dataset.root is required"),
        (["dataset=folder", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["dataset=ucf101", "dataset.root=tests", "dataset.split=tets"], "dataset.split: Invalid value 'tets'"),
        (["protocol.min_videos=1"], "protocol.min_videos=1: must be at least 8"),
        (["protocol.choice=last"], "protocol.choice: Invalid value 'last'"),
        (["protocol=viditq_101"], "model.num_frames=8: protocol viditq_101 compares clips of 16 frames"),
        (["model.guidance_scale=-1"], "model.guidance_scale=-1.0: must not be negative"),
        (["model=tiny_latte_cc", "model.resolution=64"], "model.resolution=64: this network makes 32 and nothing else"),
        (["+model.offload=sequential"], "model.offload=sequential: hides the weights that qvd w8a8 quantizes; allowed"),
        (
            ["quantizer=qdiffusion", "quantizer.activation_granularity=timestep"],
            r"activation_granularity=timestep: .*allowed with .*quantizer\.lsq\.iterations=0",
        ),
        (["workers=0"], "workers=0: must be an integer of at least 1"),
        (["experiment.arms=[{quantizer: qvd, bit: w8a8}]"], r"arms\[0\]\.bit: allowed are .*did you mean bits\?"),
        (
            ["experiment.arms=[{quantizer: qvd, bits: w8a8, n_videos: 9}]"],
            r"experiment\.arms\[0\]\.n_videos=9: must be an integer of at least 65",
        ),
        (["experiment=demo", "experiment.arms.0.quantizer=nop"], r"experiment\.arms\[0\]\.quantizer=nop: allowed are"),
    ],
)
def test_bad_input(words, message):
    with pytest.raises(ValueError, match=message):
        compose_run_config(words)


def test_a_missing_model_folder():
    with pytest.raises(FileNotFoundError, match=r"model.path=/nowhere: no diffusers pipeline there"):
        compose_run_config(["model.path=/nowhere"])


def test_too_few_reference_clips(footage):
    with pytest.raises(ValueError, match=r"2 reference clips; protocol tiny needs at least 65"):
        compose_run_config(["dataset=folder", f"dataset.root={footage}", "protocol.choice=first"])


def test_sweep_words_are_checked_one_by_one():
    check_group_choices(["quantizer=naive,qvd", "model=tiny_modelscope"])
    with pytest.raises(ValueError, match="quantizer=nope"):
        check_group_choices(["quantizer=naive,nope"])


@pytest.mark.parametrize("quantizer", [choice for choice in choices("quantizer") if choice != "fp"])
def test_a_methods_yaml_shows_every_option(quantizer):
    shown = OmegaConf.to_container(OmegaConf.load(CONF / "quantizer" / f"{quantizer}.yaml"))
    del shown["_target_"], shown["_options_"]
    options = asdict(compose_run_config([f"quantizer={quantizer}"]).arms[0].method)
    assert set(shown) == set(options)
    for key, value in options.items():
        assert not isinstance(value, dict) or set(shown[key]) == set(value), key
