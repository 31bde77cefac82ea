"""The groups of conf/, their choices, and what each is made of."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from experiments.options import EngineOptions, Export, Tracking
from metrics.options import Protocol
from qvd.data.base import VideoDataset
from qvd.options.backend import BackendOptions
from qvd.options.method import MethodOptions
from qvd.options.model import ModelOptions

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "quantizer", "dataset", "protocol", "backend", "engine", "tracking", "experiment")
KINDS: dict[str, type] = {
    "model": ModelOptions,
    "quantizer": MethodOptions,
    "dataset": VideoDataset,
    "protocol": Protocol,
    "backend": BackendOptions,
    "engine": EngineOptions,
    "tracking": Tracking,
    "export": Export,
}
"""What the options of a config's node must be, by its key."""


def choices_of(group: str) -> list[str]:
    """The names of a group's yaml files."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def load_choice(group: str, choice: str) -> DictConfig:
    """A yaml of the group, as it stands under the group's key."""
    path = CONF / group / f"{choice}.yaml"
    content = cast(DictConfig, OmegaConf.load(path))
    is_global = path.read_text(encoding="utf-8").startswith("# @package _global_")
    return cast(DictConfig, content.get(group, OmegaConf.create({}))) if is_global else content


def load_main() -> tuple[DictConfig, dict[str, str]]:
    """conf/config.yaml without Hydra's own part, and the choices it makes, by group."""
    content = cast(DictConfig, OmegaConf.load(CONF / "config.yaml"))
    defaults = content.pop("defaults")
    del content["hydra"]
    return content, {group: choice for entry in defaults if OmegaConf.is_dict(entry) for group, choice in entry.items()}
