"""From Hydra's composed config to one validated, typed tree; torch is not imported here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config.entries import ArmReader, read_n_videos
from experiments.config.groups import KINDS, load_choice
from experiments.config.names import checked_name
from experiments.config.nodes import build_node, nearest, read_choice, read_integer
from experiments.config.run_config import FP, RunConfig
from experiments.options import Export
from metrics.options import Protocol
from qvd.data.base import DrawnClips, VideoDataset, VideoFiles
from qvd.data.prompts import PromptFile
from qvd.options.model import MOST_STEPS, Offload
from qvd.options.values import check_values

MAX_WORKERS = 4  # unless the command line says otherwise: each holds a model of its own
LONGEST_NAME = 255  # bytes of a file's name, on nearly every file system
OWN_KEYS = ("bits", "seed", "device", "n_videos", "num_inference_steps", "objective", "workers", "store", "trusted")


def build_run_config(config: DictConfig, choices: dict[str, str], trusted: tuple[str, ...] = ()) -> RunConfig:
    """Validate everything that can be validated without loading a weight.

    Args:
        config: Hydra's composed config.
        choices: the choice made in every group.
        trusted: packages beside this project's that its classes may be of, see `experiments.config.trust`.

    Raises:
        ValueError, FileNotFoundError: one line naming the value and what is allowed.
    """
    try:
        return _build_run_config(config, choices, trusted)
    except OmegaConfBaseException as error:  # a key that was deleted, an interpolation to nowhere
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from error


def _build_run_config(config: DictConfig, choices: dict[str, str], trusted: tuple[str, ...]) -> RunConfig:
    _check_shape(config, trusted)
    model_choice = read_choice(config.model, "model", trusted)
    model = model_choice.options
    model.check()
    dataset = build_node(config.dataset, "dataset", trusted)
    protocol = build_node(config.protocol, "protocol", trusted)
    fewest = protocol.min_videos if isinstance(dataset, DrawnClips | VideoFiles) else 1
    n_videos = _n_videos(config, dataset, protocol, fewest)
    arms = ArmReader(n_videos, fewest, trusted).read(config, choices["quantizer"])
    run = RunConfig(
        model_name=checked_name(choices["model"], "model"),
        model_choice=model_choice,
        dataset=dataset,
        protocol=protocol,
        fp_choice=read_choice(load_choice("quantizer", FP), "quantizer"),
        backend_choice=read_choice(config.backend, "backend", trusted),
        engine_choice=read_choice(config.engine, "engine", trusted),
        tracking=build_node(config.tracking, "tracking", trusted),
        export=_export(config.export, max(arm.n_videos for arm in arms)),
        experiment=checked_name(config.experiment.name, "experiment.name"),
        arms=arms,
        seed=read_integer(config, "seed", 0),
        device=_device(config.device),
        n_videos=n_videos,
        num_inference_steps=read_integer(config, "num_inference_steps", 1),
        store=_store(config.store),
        workers=_workers(config, model.embedded),
        objective=_objective(config.objective),
    )
    for arm in run.arms:
        arm.options.calibration.check(run.num_inference_steps)
        if not arm.bits.is_float and model.offload is Offload.sequential:
            raise ValueError(
                f"model.offload=sequential: hides the weights that {arm.name} quantizes; allowed are none and model"
            )
    if run.num_inference_steps > MOST_STEPS:
        raise ValueError(f"num_inference_steps={run.num_inference_steps}: must be at most {MOST_STEPS}")
    _check_reference(run, model.num_frames)
    return run


def _check_shape(config: DictConfig, trusted: tuple[str, ...]) -> None:
    """What no single option says: which keys there are, and what of them is out of all proportion."""
    for key in map(str, config):
        if key not in (*OWN_KEYS, *KINDS, "experiment", "hydra"):
            raise ValueError(f"{key}={config[key]}: no such option; {nearest(key, [*OWN_KEYS, *KINDS])}")
    if config.trusted != list(trusted):
        raise ValueError(f"trusted={config.trusted}: packages are trusted on the command line alone")
    if not OmegaConf.is_dict(config.experiment):
        raise ValueError(f"experiment={config.experiment}: must have a name and arms, as in conf/experiment")
    for key in map(str, config.experiment):
        if key not in ("name", "arms"):
            raise ValueError(f"experiment.{key}: {nearest(key, ['name', 'arms'])}")
    own = {key: config[key] for key in (*OWN_KEYS, "experiment")}
    check_values(OmegaConf.to_container(OmegaConf.create(own), resolve=True), "")


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
    return read_n_videos(config, fewest)


def _workers(config: DictConfig, embedded: bool) -> int:
    """As many as asked for; unasked one a core for an embedded model on a CPU, else one."""
    if config.workers is not None:
        return read_integer(config, "workers", 1)
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
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(f"store={value}: a folder's name has at most {LONGEST_NAME} bytes")
    existing = next(place for place in (path, *path.parents) if os.path.exists(place))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"store={value}: {existing} is not a folder that can be written to")
    return value


def _objective(value: Any) -> str | None:
    """Whether it is a metric is known with the metrics, which are heavy."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"objective={value!r}: must be the key of a metric, or null")
    return value


def _device(value: Any) -> str:
    kind, _, index = str(value).partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ValueError(f"device={value}: allowed are cpu, cuda, cuda:0, cuda:1, …")
    return str(value)
