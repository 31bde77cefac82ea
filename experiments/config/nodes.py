"""From a yaml node to checked options, and from those to the object that they are for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


@dataclass(frozen=True)
class Choice:
    """What a yaml of conf/ chose.

    Attributes:
        target: the class that does the work, by its `_target_`.
        options: what the yaml says, checked: an instance of its `_options_`, where that is given, which the target
            extends; else of the target itself.
    """

    target: str
    options: Any

    def build(self) -> Any:
        """The target with these options; its module, which may be heavy, is imported now."""
        cls = get_class(self.target)
        if isinstance(self.options, cls):
            return self.options
        return cls(**{option.name: getattr(self.options, option.name) for option in fields(self.options)})


def read_choice(node: DictConfig, where: str) -> Choice:
    """Check every key, type and range of a node against the dataclass of its options.

    Raises:
        ValueError: unknown key, wrong type, or a value out of range, with its full name.
    """
    _check_variant(node, where)
    content = cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
    content.pop("_variants_", None)
    target = content.pop("_target_")
    cls = get_class(content.pop("_options_", target))
    schema = _writable(OmegaConf.structured(cls))
    known = [option.name for option in fields(cls)]
    for key, value in content.items():
        if key not in known:
            raise ValueError(f"{where}.{key}={value}: no such option; {nearest(key, known)}")
        if value == "???":
            raise ValueError(f"{where}.{key} is required: give it as {where}.{key}=…")
    try:
        return Choice(target, OmegaConf.to_object(OmegaConf.merge(schema, content)))
    except OmegaConfBaseException as error:
        raise ValueError(f"{where}.{error.full_key}: {error.msg.splitlines()[0] if error.msg else error}") from error


def _check_variant(node: DictConfig, where: str) -> None:
    """Where a yaml lists `_variants_`, what its `variant` sets, refuse another: its settings refer to that list."""
    if "_variants_" in node and (variant := node.get("variant")) not in node._variants_:
        raise ValueError(f"{where}.variant={variant}: {nearest(str(variant), list(map(str, node._variants_)))}")


def build_node(node: DictConfig, where: str) -> Any:
    """The object that a node describes; see `read_choice` for what is refused."""
    return read_choice(node, where).build()


def _writable(schema: DictConfig) -> DictConfig:
    """OmegaConf makes the node of a frozen dataclass read-only, which would keep merge from filling it."""
    OmegaConf.set_readonly(schema, False)
    for key in map(str, schema):
        declared = cast(Any, schema._get_node(key))._metadata.ref_type
        if OmegaConf.is_missing(schema, key) and is_dataclass(declared):  # a required group of options
            schema[key] = OmegaConf.structured(declared)
        if not OmegaConf.is_missing(schema, key) and OmegaConf.is_dict(schema[key]):
            _writable(schema[key])
    return schema


def nearest(name: str, allowed: list[str]) -> str:
    """What is allowed, and which of it the name may have meant."""
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"allowed are {', '.join(allowed)}{hint}"
