"""Each option of each choice in conf/ changes the keys of exactly the stages that depend on it.

A key that misses an option serves stale results; one that follows an option without need computes for hours what is
there already. Nothing is computed here: keys follow from the config and from inputs' keys.
"""

import json
from dataclasses import fields, replace
from itertools import chain, count
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from tests.end_to_end.dependencies import CALIBRATION, DENOISER, EFFECTS, FIXED, METHOD, VALUES
from tests.end_to_end.names import CONF, LayerRule, build_node, compose_run_config
from tests.end_to_end.options import candidates, changed, options, value_of
from tests.end_to_end.stage_keys import KeyStore, Row, stage_keys

GROUPS = ("model", "dataset", "protocol", "quantizer")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
CHOICES.remove(("quantizer", "fp"))  # has no stages of its own


def kind(choice):
    """The class, and which of its options have a value."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / choice[0] / f"{choice[1]}.yaml"), resolve=False)
    return node["_target_"], frozenset(key for key, value in node.items() if value is not None)


KINDS = list({kind(choice): choice for choice in CHOICES}.values())
N_VIDEOS, STEPS = 9, 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folders of files that are never opened as what they seem to be."""
    root = tmp_path_factory.mktemp("files")
    numbers = count()

    def write(*names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{{}} {next(numbers)}")

    checkpoints = [OmegaConf.load(path).get("checkpoint") for path in (CONF / "model").glob("*.yaml")]
    write(*(f"model/{name}" for name in {"model_index.json", "another.pt", *filter(None, checkpoints)}))
    write("model/unet/config.json", "part/config.json", "part/diffusion.safetensors", "clip/config.json", "weights.pt")
    classes = ("ApplyLipstick", "Bowling", "YoYo")
    write(*(f"classes/{name}/v_{name}_g{number:02}_c01.avi" for name in classes for number in range(10)))
    write(*(f"frames/{split}/clip/{number}.png" for split in "ab" for number in range(20)))
    write(*(f"msrvtt/video{number}.mp4" for number in range(7010, 7022)))
    captions = [{"video_id": f"video{n}", "caption": f"{n} {i}"} for n in range(7009, 7022) for i in range(20)]
    (root / "captions.json").write_text(json.dumps({"sentences": captions}))
    (root / "lists").mkdir()
    for fold, tested in enumerate(classes, 1):
        for split, listed in (("test", {tested}), ("train", {*classes} - {tested})):
            paths = (path for name in sorted(listed) for path in (root / "classes" / name).iterdir())
            lines = "".join(f"{path.parent.name}/{path.name}\n" for path in paths)
            (root / "lists" / f"{split}list{fold:02}.txt").write_text(lines)
    return root


@pytest.fixture(scope="module")
def plain(files):
    """The default run, on few videos and steps."""
    run = compose_run_config(["n_videos=65", f"num_inference_steps={STEPS}", "quantizer.calibration.num_steps=2"])
    arm = replace(run.arms[0], n_videos=N_VIDEOS)
    return replace(run, n_videos=N_VIDEOS, arms=(arm,), protocol=replace(run.protocol, clip=str(files / "clip")))


@pytest.fixture(scope="module")
def config_of(plain, files):
    """(group, choice) → the plain run with that choice, everything outside of it on small files."""

    def clip_of(protocol, prompts="captions"):
        return replace(protocol, prompts=type(protocol.prompts)(prompts), choice=type(protocol.choice)("first"))

    def model(node):
        adapter = build_node(node, "model")
        # The dial of difficulty turns float32 alone.
        adapter = replace(adapter, path=str(files / "model"), dtype=type(adapter.dtype)("float32"))
        if adapter.architecture is not None:
            adapter = replace(adapter, architecture=str(adapter.config_folder()))
        placed = {name: str(files / "part") for name in ("motion_adapter", "vae") if getattr(adapter, name, None)}
        return replace(plain, model=replace(adapter, **placed))

    def dataset(node):
        cls = get_class(node["_target_"])
        special = {
            "Shapes": {},
            "VideoFolder": {"root": "classes"},
            "UCF101": {"root": "classes", "lists": str(files / "lists"), "split": "test", "fold": 2},
            "MSRVTT": {"root": "msrvtt", "annotations": str(files / "captions.json"), "skip_bad": True},
            "FrameFolders": {"root": "frames", "split": "a", "caption": "clouds"},
        }[cls.__name__]
        if "root" in special:
            special["root"] = str(files / special["root"])
        built = build_node(OmegaConf.create({"_target_": node["_target_"], **special}), "dataset")
        return replace(plain, dataset=built, protocol=clip_of(plain.protocol))

    def protocol(node):
        weights = {"extractor_weights": str(files / "weights.pt"), "lpips_weights": str(files / "weights.pt")}
        built = replace(clip_of(build_node(node, "protocol")), clip=str(files / "clip"), random_start=False, **weights)
        return replace(dataset({"_target_": OmegaConf.load(CONF / "dataset/folder.yaml")["_target_"]}), protocol=built)

    def quantizer(node):
        method = build_node(node, "quantizer")
        options = {"calibration": replace(method.calibration, num_samples=N_VIDEOS, num_steps=2)}
        if hasattr(method, "lsq"):  # beside it there is one activation_granularity alone
            options["lsq"] = replace(method.lsq, iterations=0)
        method = replace(method, rules=[LayerRule("*", 8, 8)], **options)
        return replace(plain, arms=(replace(plain.arms[0], method=method),))

    builders = {"model": model, "dataset": dataset, "protocol": protocol, "quantizer": quantizer}
    return lambda group, choice: builders[group](OmegaConf.load(CONF / group / f"{choice}.yaml"))


def expected(option, declared_by):
    """What the table says of an option; None where it says nothing."""
    return next(
        (stages for stages, names in EFFECTS.get(declared_by, {}).items() if option.field in names.split()), None
    )


def named_values(option, declared_by, value):
    names = [f"{owner}.{option.field}{'=None' if value is None else ''}" for owner in (declared_by, option.owner)]
    return next((VALUES[name] for name in names if name in VALUES), [])


def other_values(config, option, declared_by, root):
    """(config with another value, its keys, what should differ): as the table says, or the first valid candidate."""
    value = value_of(config, option.path)
    for number, (make, stages) in enumerate(named := named_values(option, declared_by, value)):
        (root / str(number)).mkdir(parents=True)
        other = changed(config, option.path, make(value, root / str(number)))
        yield other, stage_keys(other), stages
    if named:
        return
    for candidate in candidates(value):
        try:
            other = changed(config, option.path, candidate)
            keys = stage_keys(other)
        except ValueError:
            continue
        if other != config:
            yield other, keys, expected(option, declared_by)
            return
    assert f"{option.of}.{option.field}" in FIXED, f"{option}: no other valid value is known"


def options_of(config, group):
    below = ("arms", 0, "method") if group == "quantizer" else (group,)
    return [option for option in options(config) if option.path[: len(below)] == below]


def violations(config, chosen, root, alias=None):
    """What differs from the table among the chosen options, a line each."""
    before, lines = stage_keys(config), []
    for number, option in enumerate(chosen):
        declared_by = (alias or {}).get(option.owner, option.owner)
        if expected(option, declared_by) is None:
            lines.append(f"{option}: nothing is declared in tests/end_to_end/dependencies.py")
            continue
        for other, after, stages in other_values(config, option, declared_by, root / str(number)):
            differing = {stage for stage in before if before[stage] != after[stage]}
            if differing != stages:
                lines.append(
                    f"{option}: {value_of(config, option.path)!r} → {value_of(other, option.path)!r} "
                    f"wrongly changes {sorted(differing - stages)}, wrongly keeps {sorted(stages - differing)}"
                )
    return "\n".join(lines)


@pytest.mark.parametrize(("group", "choice"), KINDS)
def test_keys_follow_the_options_of_every_kind_of_choice(config_of, tmp_path, group, choice):
    config = config_of(group, choice)
    wrong = violations(config, options_of(config, group), tmp_path)
    assert not wrong, wrong


def test_keys_follow_the_options_of_a_run(plain, tmp_path):
    in_groups = chain.from_iterable(options_of(plain, group) for group in GROUPS)
    wrong = violations(plain, set(options(plain)) - set(in_groups), tmp_path)
    assert not wrong, wrong


def test_keys_follow_the_protocol_of_drawn_clips(config_of, plain, tmp_path):
    """Where no video is read, how one would be chosen does not matter."""
    config = replace(plain, protocol=config_of("protocol", "tiny").protocol)
    wrong = violations(config, options_of(config, "protocol"), tmp_path, {"Protocol": "Protocol of drawn clips"})
    assert not wrong, wrong


def test_the_table_names_no_option_that_is_gone(config_of, plain):
    configs = (plain, *(config_of(*choice) for choice in KINDS))
    found = {f"{option.owner}.{option.field}" for option in chain.from_iterable(map(options, configs))}
    told = {
        f"{owner.removesuffix(' of drawn clips')}.{name}"
        for owner, effects in EFFECTS.items()
        for names in effects.values()
        for name in names.split()
    }
    assert told <= found, sorted(told - found)


def test_another_class_with_the_same_options_is_another_method(config_of):
    config = config_of("quantizer", "naive")
    method = config.arms[0].method
    other = type("Other", (type(method),), {"__module__": type(method).__module__})
    values = {field.name: getattr(method, field.name) for field in fields(method)}
    before, after = stage_keys(config), stage_keys(changed(config, ("arms", 0, "method"), other(**values)))
    assert {stage for stage in before if before[stage] != after[stage]} == METHOD


@pytest.mark.parametrize(("disparity", "differing"), [(1.0, CALIBRATION | {"FP cost"}), (4.0, DENOISER)])
def test_under_the_dial_everything_follows_the_prompt_that_it_looked_at(config_of, tmp_path, disparity, differing):
    """Which channels are stretched is seen on the first calibration prompt; prompts of samples are others."""
    config = config_of("dataset", "msrvtt")
    config = replace(config, model=replace(config.model, disparity=disparity))
    content = json.loads(Path(config.dataset.annotations).read_text())
    for sentence in content["sentences"]:
        if sentence["video_id"] == "video7009":  # no test video's
            sentence["caption"] += " again"
    (tmp_path / "other.json").write_text(json.dumps(content))
    other = changed(config, ("dataset", "annotations"), str(tmp_path / "other.json"))
    before, after = stage_keys(config), stage_keys(other)
    assert {stage for stage in before if before[stage] != after[stage]} == differing


def test_more_videos_and_larger_calibration_sets_go_on_where_fewer_ended(plain):
    config = replace(plain, model=replace(plain.model, batch_size=4))
    plan = replace(config.arms[0].method.calibration, num_samples=9)
    stores = {number: KeyStore() for number in (9, 13)}
    for number, store in stores.items():
        stages = Row(config, number, store).stages
        stages.samples(None)
        stages.calibration(replace(plan, num_samples=number))
    for stage in ("samples", "calibration"):
        (*fewer, last), more = (store.parts[stage] for store in stores.values())
        assert fewer == more[:2] and last not in more, stage
