"""Each option of each choice in conf/ changes the keys of exactly the stages that depend on it.

A key that misses an option serves stale results; one that follows an option without need computes for hours what is
there already. Nothing is computed here: keys follow from the config and from inputs' keys.
"""

import json
from dataclasses import dataclass, fields, replace
from itertools import chain, pairwise
from pathlib import Path

import pytest

from tests.end_to_end.choices import GROUPS, KINDS, Choices, with_backend, with_model
from tests.end_to_end.dependencies import CALIBRATION, DENOISER, EFFECTS, EXECUTION, FIXED, METHOD, VALUES
from tests.end_to_end.names import Choice, Simulation
from tests.end_to_end.options import candidates, changed, options, value_of
from tests.end_to_end.stage_keys import KeyStore, Row, stage_keys


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
    return Choices(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def plain(choices):
    return choices.plain


@pytest.fixture(scope="module")
def config_of(choices):
    return choices.config


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
    below = {
        "quantizer": ("arms", 0, "choice", "options"),
        "model": ("model_choice", "options"),
        "backend": ("backend_choice", "options"),
    }.get(group, (group,))
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
    before, after = (
        stage_keys(config),
        stage_keys(
            replace(
                config,
                arms=(replace(config.arms[0], choice=Choice("quantizer", "baselines.naive.Naive", other(**values))),),
            )
        ),
    )
    assert {stage for stage in before if before[stage] != after[stage]} == METHOD


@dataclass(frozen=True)
class Another(Simulation):
    name = "another"
    threads: int = 1


def test_what_is_executed_follows_the_backend_and_its_options_and_nothing_else_does(plain):
    """The FP model's videos, calibration and quantization are the same on any."""
    keys = [stage_keys(with_backend(plain, backend)) for backend in (Simulation(), Another(), Another(threads=2))]
    for before, after in pairwise(keys):
        assert {stage for stage in before if before[stage] != after[stage]} == EXECUTION


@pytest.mark.parametrize(("disparity", "differing"), [(1.0, CALIBRATION | {"FP cost"}), (4.0, DENOISER)])
def test_under_the_dial_everything_follows_the_prompt_that_it_looked_at(config_of, tmp_path, disparity, differing):
    """Which channels are stretched is seen on the first calibration prompt; prompts of samples are others."""
    config = config_of("dataset", "msrvtt")
    config = with_model(config, replace(config.model, disparity=disparity))
    content = json.loads(Path(config.dataset.annotations).read_text())
    for sentence in content["sentences"]:
        if sentence["video_id"] == "video7009":  # no test video's
            sentence["caption"] += " again"
    (tmp_path / "other.json").write_text(json.dumps(content))
    other = changed(config, ("dataset", "annotations"), str(tmp_path / "other.json"))
    before, after = stage_keys(config), stage_keys(other)
    assert {stage for stage in before if before[stage] != after[stage]} == differing


def test_more_videos_and_larger_calibration_sets_go_on_where_fewer_ended(plain):
    config = with_model(plain, replace(plain.model, batch_size=4))
    plan = replace(config.arms[0].method.calibration, num_samples=9)
    stores = {number: KeyStore() for number in (9, 13)}
    for number, store in stores.items():
        stages = Row(config, number, store).stages
        stages.samples(None)
        stages.calibration(replace(plan, num_samples=number))
    for stage in ("samples", "calibration"):
        (*fewer, last), more = (store.parts[stage] for store in stores.values())
        assert fewer == more[:2] and last not in more, stage
