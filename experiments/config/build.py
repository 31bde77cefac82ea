"""From Hydra's composed config to one validated, typed tree; torch is not imported here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config.names import checked_name
from experiments.config.nodes import build_node, nearest, read_choice
from experiments.config.run_config import FP, Arm, RunConfig
from experiments.config.words import option_words, parse_words, values
from experiments.options import Export
from metrics.options import Protocol
from qvd.data.base import DrawnClips, VideoDataset, VideoFiles
from qvd.data.prompts import PromptFile
from qvd.options.bits import ALLOWED, FLOATING_POINT, Bits
from qvd.options.model import Offload

CONF = Path(__file__).parents[2] / "conf"
WHY_MANY = " (what FVD needs under this protocol)"
ARM_KEYS = ("quantizer", "bits", "variant", "options", "n_videos")
MAX_WORKERS = 4  # unless the command line says otherwise: each holds a model of its own
GROUPS = ("model", "quantizer", "dataset", "protocol", "backend", "engine", "tracking", "experiment")


def build_run_config(config: DictConfig, choices: dict[str, str]) -> RunConfig:
    """Validate everything that can be validated without loading a weight.

    Args:
        config: Hydra's composed config.
        choices: the choice made in every group.

    Raises:
        ValueError, FileNotFoundError: one line naming the value and what is allowed.
    """
    try:
        return _build_run_config(config, choices)
    except OmegaConfBaseException as error:  # a key that was deleted, an interpolation to nowhere
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from error


def _build_run_config(config: DictConfig, choices: dict[str, str]) -> RunConfig:
    model_choice = read_choice(config.model, "model")
    model = model_choice.options
    model.check()
    dataset = build_node(config.dataset, "dataset")
    protocol = build_node(config.protocol, "protocol")
    fewest = protocol.min_videos if isinstance(dataset, DrawnClips | VideoFiles) else 1
    n_videos = _n_videos(config, dataset, protocol, fewest)
    arms = _build_arms(config, choices["quantizer"], n_videos, fewest)
    run = RunConfig(
        model_name=checked_name(choices["model"], "model"),
        model_choice=model_choice,
        dataset=dataset,
        protocol=protocol,
        fp_choice=read_choice(_load(CONF / "quantizer" / f"{FP}.yaml"), "quantizer"),
        backend_choice=read_choice(config.backend, "backend"),
        engine_choice=read_choice(config.engine, "engine"),
        tracking=build_node(config.tracking, "tracking"),
        export=_export(config.export, max(arm.n_videos for arm in arms)),
        experiment=checked_name(config.experiment.name, "experiment.name"),
        arms=arms,
        seed=_integer(config, "seed", 0),
        device=_device(config.device),
        n_videos=n_videos,
        num_inference_steps=_integer(config, "num_inference_steps", 1),
        store=_store(config.store),
        workers=_workers(config, model.embedded),
        objective=config.objective,
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
    """Check the words of a command line, and the choices among them, before Hydra composes.

    Raises:
        ValueError: a word that Hydra cannot read, or a choice that is not in conf/, naming those that are.
    """
    for override in parse_words(words):
        group = override.key_or_group
        if group not in GROUPS:
            continue
        allowed = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        if override.is_delete():
            raise ValueError(f"~{group}: a run needs one; {nearest('', allowed)}")
        chosen = values(override, allowed)
        for choice in chosen:
            if choice not in allowed:
                raise ValueError(f"{group}={choice}: {nearest(choice, allowed)}")
        if not chosen:
            raise ValueError(f"{override.input_line}: matches none; {nearest('', allowed)}")


def _build_arms(config: DictConfig, quantizer: str, n_videos: int, min_videos: int) -> tuple[Arm, ...]:
    """The command line's arm, or those of the experiment: every entry once for each of its bits."""
    Bits.parse(str(config.bits))  # also where the experiment has bits of its own: they name the run's folder
    if not config.experiment.arms:
        return (_build_arm(quantizer, config.quantizer, config.bits, n_videos, {}),)
    if not OmegaConf.is_list(config.experiment.arms):
        raise ValueError(f"experiment.arms={config.experiment.arms}: must be a list of {{quantizer: …, bits: …}}")
    arms: list[Arm] = []
    for number, entry in enumerate(config.experiment.arms):
        for arm in _arms_of_entry(entry, f"experiment.arms[{number}]", n_videos, min_videos):
            if arm.name in {other.name for other in arms}:
                raise ValueError(f"experiment.arms[{number}]: a second arm called {arm.name}; give it a variant")
            arms.append(arm)
    return tuple(arms)


def _arms_of_entry(entry: Any, where: str, n_videos: int, min_videos: int) -> list[Arm]:
    """An entry of an experiment, once for each of its bits."""
    if not OmegaConf.is_dict(entry):
        raise ValueError(f"{where}={entry}: must be a mapping such as {{quantizer: naive, bits: w8a8}}")
    for key in entry:
        if key not in ARM_KEYS:
            raise ValueError(f"{where}.{key}: {nearest(str(key), list(ARM_KEYS))}")
    options = entry.get("options", {})
    if not OmegaConf.is_dict(options) and options != {}:
        raise ValueError(f"{where}.options={options}: must be a mapping, as in conf/quantizer")
    own = "n_videos" in entry
    count = _videos(entry, min_videos, f"{where}.") if own else n_videos
    allowed = sorted(path.stem for path in (CONF / "quantizer").glob("*.yaml"))
    quantizer = entry.get("quantizer")
    if quantizer not in allowed:
        raise ValueError(f"{where}.quantizer={quantizer}: {nearest(str(quantizer), allowed)}")
    node, variant, bits = _load(CONF / "quantizer" / f"{quantizer}.yaml"), entry.get("variant"), entry.get("bits")
    if variant is not None:
        variant = checked_name(variant, f"{where}.variant")
    if not bits:
        raise ValueError(f"{where}.bits={bits}: allowed are {ALLOWED}, or a list of such")
    arms = [
        _build_arm(quantizer, node, b, count, options, variant) for b in (bits if OmegaConf.is_list(bits) else [bits])
    ]
    return [replace(arm, overrides=(*arm.overrides, f"n_videos={count}")) if own else arm for arm in arms]


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
    words = [f"quantizer={name}", f"bits={parsed}", *option_words(options, "quantizer")]
    called = variant or checked_name(choice.options.name, "quantizer.name")
    return Arm(called, checked_name(name, "quantizer"), choice, parsed, n_videos, tuple(words))


def _load(path: Path) -> DictConfig:
    return cast(DictConfig, OmegaConf.load(path))


def _check_reference(run: RunConfig, num_frames: int) -> None:
    protocol = run.protocol
    if num_frames < protocol.num_frames:
        raise ValueError(
            f"model.num_frames={num_frames}: protocol {protocol.name} compares clips of {protocol.num_frames} frames"
        )
    if run.reference.has_clips and run.reference.count < protocol.min_videos:
        raise ValueError(
            f"dataset {run.dataset.describe()}: {run.reference.count} reference clips{run.reference.left_out_words}; "
            f"protocol {protocol.name} needs at least {protocol.min_videos}"
        )


def _n_videos(config: DictConfig, dataset: VideoDataset, protocol: Protocol, fewest: int) -> int:
    """As asked for; unasked the protocol's, or what a user's own prompts make."""
    if config.n_videos is None:
        return dataset.n_videos if isinstance(dataset, PromptFile) else protocol.n_videos
    return _videos(config, fewest)


def _videos(config: DictConfig, fewest: int, where: str = "") -> int:
    return _integer(config, "n_videos", fewest, WHY_MANY if fewest > 1 else "", where)


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


def _export(node: DictConfig, n_videos: int) -> Export:
    export = build_node(node, "export")
    if isinstance(export.videos, int) and export.videos > n_videos:
        raise ValueError(f"export.videos={export.videos}: no arm has more than {n_videos}; all exports every one")
    return export


def _store(value: Any) -> str:
    """A folder, or a place where one can be made."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"store={value!r}: must be a folder")
    path = Path(value).absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"store={value}: {existing} is not a folder that can be written to")
    return value


def _device(value: Any) -> str:
    kind, _, index = str(value).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ValueError(f"device={value}: allowed are cpu, cuda, cuda:0, cuda:1, …")
    return str(value)
