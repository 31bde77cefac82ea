"""From Hydra's composed config to one validated, typed tree; torch is not imported here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from experiments.config.nodes import build_node, nearest, read_choice
from experiments.config.run_config import FP, Arm, RunConfig
from qvd.options.bits import FLOATING_POINT, Bits
from qvd.options.model import Offload

CONF = Path(__file__).parents[2] / "conf"
WHY_MANY = " (what FVD needs under this protocol)"
ARM_KEYS = ("quantizer", "bits", "variant", "options", "n_videos")
MAX_WORKERS = 4  # unless the command line says otherwise: each holds a model of its own
GROUPS = ("model", "quantizer", "dataset", "protocol", "engine", "tracking", "experiment")


def build_run_config(config: DictConfig, choices: dict[str, str]) -> RunConfig:
    """Validate everything that can be validated without loading a weight.

    Args:
        config: Hydra's composed config.
        choices: the choice made in every group.

    Raises:
        ValueError, FileNotFoundError: one line naming the value and what is allowed.
    """
    model_choice = read_choice(config.model, "model")
    model = model_choice.options
    model.check()
    dataset = build_node(config.dataset, "dataset")
    protocol = build_node(config.protocol, "protocol")
    n_videos = _integer(config, "n_videos", protocol.min_videos, WHY_MANY)
    arms = _build_arms(config, choices["quantizer"], n_videos, protocol.min_videos)
    run = RunConfig(
        model_name=choices["model"],
        model_choice=model_choice,
        dataset=dataset,
        protocol=protocol,
        fp_choice=read_choice(_load(CONF / "quantizer" / f"{FP}.yaml"), "quantizer"),
        engine_choice=read_choice(config.engine, "engine"),
        tracking=build_node(config.tracking, "tracking"),
        experiment=config.experiment.name,
        arms=arms,
        seed=_integer(config, "seed", 0),
        device=_device(config.device),
        n_videos=n_videos,
        num_inference_steps=_integer(config, "num_inference_steps", 1),
        store=config.store,
        workers=_workers(config, model.embedded),
    )
    for arm in run.arms:
        arm.options.calibration.check(run.num_inference_steps)
        if not arm.bits.is_float and model.offload is Offload.sequential:
            raise ValueError(
                f"model.offload=sequential: hides the weights that {arm.name} quantizes; allowed are none and model"
            )
    _check_reference(run, model.num_frames)
    return run


def check_group_choices(words: list[str]) -> None:
    """Check `group=choice` words of a command line before Hydra composes.

    Raises:
        ValueError: a choice that is not in conf/, naming those that are.
    """
    for word in words:
        group, _, value = word.lstrip("+~").partition("=")
        if group not in GROUPS or not value:
            continue
        allowed = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        for choice in value.split(","):
            if choice not in allowed:
                raise ValueError(f"{group}={choice}: {nearest(choice, allowed)}")


def _build_arms(config: DictConfig, quantizer: str, n_videos: int, min_videos: int) -> tuple[Arm, ...]:
    """The command line's arm, or those of the experiment: every entry once for each of its bits."""
    if not config.experiment.arms:
        return (_build_arm(quantizer, config.quantizer, config.bits, n_videos, {}),)
    arms: list[Arm] = []
    for number, arm in enumerate(config.experiment.arms):
        for key in arm:
            if key not in ARM_KEYS:
                raise ValueError(f"experiment.arms[{number}].{key}: {nearest(str(key), list(ARM_KEYS))}")
        own = "n_videos" in arm
        count = _integer(arm, "n_videos", min_videos, WHY_MANY, f"experiment.arms[{number}].") if own else n_videos
        path = CONF / "quantizer" / f"{arm.quantizer}.yaml"
        if not path.exists():
            allowed = sorted(other.stem for other in path.parent.glob("*.yaml"))
            raise ValueError(f"experiment.arms[{number}].quantizer={arm.quantizer}: {nearest(arm.quantizer, allowed)}")
        for bits in arm.bits if OmegaConf.is_list(arm.bits) else [arm.bits]:
            built = _build_arm(arm.quantizer, _load(path), bits, count, arm.get("options", {}), arm.get("variant"))
            if own:
                built = replace(built, overrides=(*built.overrides, f"n_videos={count}"))
            if built.name in {other.name for other in arms}:
                raise ValueError(f"experiment.arms[{number}]: a second arm called {built.name}; give it a variant")
            arms.append(built)
    return tuple(arms)


def _build_arm(
    name: str,
    node: DictConfig,
    bits: str,
    n_videos: int,
    options: DictConfig | dict[str, Any],
    variant: str | None = None,
) -> Arm:
    parsed = Bits.parse(str(bits))
    if name == FP or parsed.is_float:  # either word alone asks for the FP model
        name, node, parsed = FP, _load(CONF / "quantizer" / f"{FP}.yaml"), FLOATING_POINT
    choice = read_choice(cast(DictConfig, OmegaConf.merge(node, options)), "quantizer")
    words = [f"quantizer={name}", f"bits={parsed}", *(f"quantizer.{key!s}={value}" for key, value in options.items())]
    return Arm(variant or name, name, choice, parsed, n_videos, tuple(words))


def _load(path: Path) -> DictConfig:
    return cast(DictConfig, OmegaConf.load(path))


def _check_reference(run: RunConfig, num_frames: int) -> None:
    protocol = run.protocol
    if num_frames < protocol.num_frames:
        raise ValueError(
            f"model.num_frames={num_frames}: protocol {protocol.name} compares clips of {protocol.num_frames} frames"
        )
    if run.reference.count < protocol.min_videos:
        raise ValueError(
            f"dataset {run.dataset.describe()}: {run.reference.count} reference clips{run.reference.left_out_words}; "
            f"protocol {protocol.name} needs at least {protocol.min_videos}"
        )


def _integer(config: DictConfig, key: str, minimum: int, why: str = "", where: str = "") -> int:
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{where}{key}={value}: must be an integer of at least {minimum}{why}")
    return value


def _workers(config: DictConfig, embedded: bool) -> int:
    """As many as asked for; unasked one a core for an embedded model on a CPU, else one."""
    if config.workers is not None:
        return _integer(config, "workers", 1)
    return min(os.cpu_count() or 1, MAX_WORKERS) if embedded and config.device == "cpu" else 1


def _device(value: Any) -> str:
    kind, _, index = str(value).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ValueError(f"device={value}: allowed are cpu, cuda, cuda:0, cuda:1, …")
    return str(value)
