"""Every choice in conf/ builds; every kind of bad input gets one line that names it."""

import shutil
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

from experiments.attributes import compose_run_config
from experiments.config import groups
from experiments.config.groups import CONF, GROUPS
from experiments.config.keys import check_words
from qvd.options.bits import Bits
from qvd.options.model import DType
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


@pytest.mark.full
@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_arm_repeats_by_its_own_words(experiment):
    for arm in compose_run_config([f"experiment={experiment}"]).arms:
        repeated = compose_run_config(list(arm.overrides)).arms[0]
        assert (repeated.bits, repeated.method) == (arm.bits, arm.method), arm.overrides


def test_options_of_an_arm_in_lists_and_mappings_are_words_that_hydra_reads():
    options = "{only: ['*.conv1', '*.conv2'], rules: [{pattern: '*.conv1', weight_bits: null, activation_bits: 8}]}"
    (arm,) = compose_run_config([f"experiment.arms=[{{quantizer: qvd, bits: w4a8, options: {options}}}]"]).arms
    assert compose_run_config(list(arm.overrides)).arms[0].method == arm.method
    assert arm.method.rules[0].weight_bits is None and arm.method.only == ["*.conv1", "*.conv2"]


def test_fairness_crosses_what_is_no_methods_own_with_every_method():
    arms = [arm for arm in compose_run_config(["experiment=fairness"]).arms if ", " in arm.variant]
    crossed = {
        (a.quantizer, a.method.calibration.num_samples, a.method.weight_range, a.method.bias_correction) for a in arms
    }
    for quantizer in {arm.quantizer for arm in arms}:
        assert len([case for case in crossed if case[0] == quantizer]) == 8, quantizer


def test_naive_matched_has_what_qvd_has_beside_its_method():
    """The calibration set, how ranges are found, and bias correction: no other option differs from naive's."""
    matched, plain, qvd = (
        compose_run_config([f"quantizer={name}"]).arms[0].method for name in ("naive_matched", "naive", "qvd")
    )
    shared = {"calibration", "weight_range", "activation_range", "bias_correction"}
    differing = {f.name for f in fields(plain) if getattr(plain, f.name) != getattr(matched, f.name)}
    assert type(matched) is type(plain) and differing == shared | {"name"}
    assert all(getattr(matched, name) == getattr(qvd, name) for name in shared)


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
        (["quantizer=nope"], "quantizer=nope: allowed are fp, naive, naive_matched, ptq4dm"),
        (["backend=simulate"], r"backend=simulate: allowed are .*simulated.* \(did you mean simulated\?\)"),
        (["+backend.threads=2"], r"backend\.threads=2: no such option"),
        (["quantizer=qdv"], r"quantizer=qdv: .*did you mean qvd\?"),
        (["quantizer.p_norm=0"], r"quantizer\.p_norm=0\.0: must be in"),
        (["quantizer.htdq=foo"], "quantizer.htdq: Invalid value 'foo', expected one of"),
        (["quantizer.calibration.num_steps=99"], r"num_steps=99: must lie in 1\.\.10"),
        (["+quantizer.colour=red"], "quantizer.colour=red: no such option; allowed are"),
        (["dataset=folder"], "dataset.root is required"),
        (["dataset=folder", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["dataset=prompts"], "dataset.file is required"),
        (["dataset=prompts", "dataset.file=/nowhere.txt"], "dataset.file=/nowhere.txt: no such file"),
        (["export.videos=some"], "export.videos=some: allowed are all, none, or a number"),
        (["export.videos=500"], "export.videos=500: no arm has more than 128; all exports every one"),
        (["dataset=ucf101", "dataset.root=tests", "dataset.split=tets"], "dataset.split: Invalid value 'tets'"),
        (["protocol.min_videos=1"], "protocol.min_videos=1: must be at least 8"),
        (["protocol.choice=last"], "protocol.choice: Invalid value 'last'"),
        (["protocol=viditq_101"], "model.num_frames=8: protocol viditq_101 compares clips of 16 frames"),
        (["model.guidance_scale=-1"], "model.guidance_scale=-1.0: must not be negative"),
        (["model.scheduler=eulr"], "model.scheduler: Invalid value 'eulr', expected one of .*euler"),
        (
            ["model.negative_prompt=blurry", "model.guidance_scale=1"],
            r"model.negative_prompt='blurry': nothing leads away from it at model\.guidance_scale=1\.0",
        ),
        (
            ["model=tiny_latte_cc", "model.negative_prompt=blurry"],
            "model.negative_prompt='blurry': this model has classes",
        ),
        (["model=tiny_latte_cc", "model.resolution=64"], "model.resolution=64: this network makes 32 and nothing else"),
        (["model.offload=sequential"], "model.offload=sequential: hides the weights that qvd w8a8 quantizes; allowed"),
        (
            ["quantizer=qdiffusion", "quantizer.activation_granularity=timestep"],
            r"activation_granularity=timestep: .*allowed with .*quantizer\.lsq\.iterations=0",
        ),
        (["model.resolution=33"], r"model\.resolution=33: must be a multiple of 8"),
        (["num_inference_steps=1001"], "num_inference_steps=1001: must be at most 1000"),
        (["model=latte", "model.num_inference_steps=1001"], r"num_inference_steps=1001: must be at most 1000"),
        (
            ["model=latte", "model.init=random", "model.architecture=late"],
            r"architecture=late: allowed are animatediff",
        ),
        (["model.architecture=.."], r"model\.architecture=\.\.: allowed are"),
        (["model.guidance_scale=nan"], r"model\.guidance_scale=nan: must be finite, and at most 1,000,000"),
        (["quantizer.adaround.learning_rate=nan"], r"quantizer\.adaround\.learning_rate=nan: must be finite"),
        (["quantizer.adaround.learning_rate='1e99'"], r"quantizer\.adaround\.learning_rate=1e\+99: must be finite"),
        (["n_videos=10000000"], "n_videos=10000000: must be finite, and at most"),
        (["protocol.seed=-1"], r"protocol\.seed=-1: must be an integer of at least 0"),
        (["objective=[]"], r"objective=\[\]: must be the key of a metric"),
        (["experiment.arms=[1]"], r"experiment\.arms\[0\]=1: must be a mapping"),
        (["experiment.arms=[{quantizer:naive}]"], r"experiment\.arms\[0\]\.bits=None: allowed are"),
        (["quantizer.calibration=5"], r"quantizer\.calibration=5: must be a group of options"),
        (["quantizer=fp", "quantizer.p_norm=nan"], r"quantizer\.p_norm=nan: must be finite"),
        (["bits=fp", "quantizer.p_norm=0"], r"quantizer\.p_norm=0\.0: must be in"),
        (["quantizer.only={a: 1}"], r"quantizer\.only=\{a: 1\}: must be a list"),
        (["quantizer.calibration=[1]"], r"quantizer\.calibration=\[1\]: must be a group of options"),
        (["workers=0"], "workers=0: must be an integer of at least 1"),
        (["experiment.arms=[{quantizer: qvd, bit: w8a8}]"], r"arms\[0\]\.bit: allowed are .*did you mean bits\?"),
        (
            ["experiment.arms=[{quantizer: qvd, bits: w8a8, n_videos: 9}]"],
            r"experiment\.arms\[0\]\.n_videos=9: must be an integer of at least 65",
        ),
        (["experiment.name="], r"experiment\.name='': must have 1 to 64 printable characters"),
        ([f"experiment.name={'x' * 65}"], r"experiment\.name='x{65}': must have 1 to 64"),
        (["experiment.name=null"], r"experiment\.name=None: must have"),
        (['experiment.name="a\tb"'], r"experiment\.name='a\\tb': must have"),
        (["experiment.arms=[{quantizer: qvd, bits: w8a8, variant: a/b}]"], r"arms\[0\]\.variant='a/b': must have"),
        (["experiment.arms=[{quantizer: qvd, bits: w8a8, variant: ''}]"], r"arms\[0\]\.variant='': must have"),
        (["experiment.arms=[qvd]"], r"arms\[0\]=qvd: must be a mapping"),
        (["experiment.arms=qvd"], r"experiment\.arms=qvd: must be a list"),
        (["experiment.arms=[{bits: w8a8}]"], r"arms\[0\]\.quantizer=None: allowed are"),
        (
            ["experiment.arms=[{quantizer: ../model/latte, bits: w8a8}]"],
            r"arms\[0\]\.quantizer=\.\./model/latte: allowed",
        ),
        (["experiment.arms=[{quantizer: qvd, bits: []}]"], r"arms\[0\]\.bits=\[\]: allowed are"),
        (["experiment.arms=[{quantizer: qvd, bits: w8a8, options: 5}]"], r"arms\[0\]\.options=5: must be a mapping"),
        (["experiment=demo", "bits=a/b"], "bits=a/b: allowed are"),
        (["store="], "store='': must be a folder"),
        ([f"store={'x' * 300}"], "store=x{300}: a folder's name has at most 255 bytes"),
        (["dataset=folder", f"dataset.root={'x' * 300}"], "dataset.root=x{300}: no such folder"),
        (["store=run.py"], r"store=run\.py: .*/run\.py is not a folder"),
        (["~seed"], "~seed: an option can be set, not deleted"),
        (["model.path=${nope}"], "model.path: Interpolation key 'nope' not found"),
        (
            ["model.dtpye=float16"],
            r"model.dtpye=float16: no such option of model=tiny_modelscope; did you mean model.dtype\?",
        ),
        (["experiment=demo", "experiment.arms.0.quantizer=nop"], r"experiment\.arms\[0\]\.quantizer=nop: allowed are"),
    ],
)
def test_bad_input(words, message):
    with pytest.raises(ValueError, match=message) as error:
        compose_run_config(words)
    assert "\n" not in str(error.value)


def test_a_config_file_whose_name_is_no_tag(tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(groups, "CONF", tmp_path / "conf")
    for group, source in (("model", "tiny_modelscope"), ("quantizer", "naive")):
        long = "x" * 65
        (tmp_path / "conf" / group / f"{long}.yaml").write_text((CONF / group / f"{source}.yaml").read_text())
        with pytest.raises(ValueError, match=rf"{group}='{long}': must have 1 to 64"):
            compose_run_config([f"{group}={long}"])


@pytest.mark.parametrize("words", [[], ["model.init=random"]])
def test_a_missing_model_folder(words):
    with pytest.raises(FileNotFoundError, match=r"model.path=/nowhere: no diffusers pipeline there"):
        compose_run_config(["model.path=/nowhere", *words])


def test_own_prompts_say_how_many_videos(dataset_words):
    """No FVD to real clips, so no protocol's least number; theirs are the prompts, whatever the protocol's are."""
    words = ["dataset=prompts", *dataset_words["prompts"]]
    run = compose_run_config([*words, "dataset.videos_per_prompt=5"])
    assert run.n_videos == 10 and not run.reference.has_clips and run.reference.count == 0
    assert run.reference.prompts("evaluation", range(3)) == [run.dataset.prompts[i] for i in (0, 1, 0)]
    assert compose_run_config([*words, "n_videos=1", "export.videos=1"]).n_videos == 1
    with pytest.raises(ValueError, match=r"n_videos=0: must be an integer of at least 1$"):
        compose_run_config([*words, "n_videos=0"])


def test_too_few_reference_clips(footage):
    with pytest.raises(ValueError, match=r"2 reference clips; protocol tiny needs at least 65"):
        compose_run_config(["dataset=folder", f"dataset.root={footage}", "protocol.choice=first"])


def test_sweep_words_are_checked_one_by_one():
    check_words(["quantizer=naive,qvd", "model=tiny_modelscope"])
    with pytest.raises(ValueError, match="quantizer=nope"):
        check_words(["quantizer=naive,nope"])


def missing(node, options, where):
    """The fields of a dataclass of options, nested ones too, that a node has not."""
    declared = get_type_hints(options)
    for option in fields(options):
        if option.name not in node:
            yield f"{where}.{option.name}"
        elif is_dataclass(declared[option.name]):
            yield from missing(node[option.name], declared[option.name], f"{where}.{option.name}")


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in GROUPS if g != "experiment" for c in choices(g)])
def test_every_option_stands_in_the_config(group, choice):
    """So that it can be set on the command line without a plus: a family's own in its yaml, the rest in config.yaml."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = OmegaConf.to_container(compose("config", [f"{group}={choice}"])[group], resolve=False)
    options = get_class(node.pop("_options_", node["_target_"]))
    assert not list(missing(node, options, group))
    assert node.keys() - {"_target_", "_variants_"} == {option.name for option in fields(options)}


def test_options_of_a_tiny_model_are_set_like_any_other():
    model = compose_run_config(["model=tiny_modelscope", "model.dtype=float16", "model.decode_chunk_size=2"]).model
    assert model.dtype is DType.float16 and model.decode_chunk_size == 2


def test_a_sweep_over_methods_may_set_what_fp_does_not_need():
    (arm,) = compose_run_config(["quantizer=fp", "quantizer.calibration.num_samples=2"]).arms
    assert arm.bits.is_float
