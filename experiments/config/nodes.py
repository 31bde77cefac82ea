"""From a yaml node to checked options, and from those to the object that they are for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config.groups import KINDS
from experiments.config.trust import check_trusted, find_class
from qvd.options.values import check_values


@dataclass(frozen=True)
class Choice:
    """What a yaml of conf/ chose.

    Attributes:
        where: its key.
        target: the class that does the work, by its `_target_`, whose package is trusted.
        options: what the yaml says, checked: an instance of its `_options_`, where that is given, which the target
            extends; else of the target itself.
        trusted: packages that the command line trusts.
    """

    where: str
    target: str
    options: Any
    trusted: tuple[str, ...] = ()

    def build(self) -> Any:
        """The target with these options; its module, which may be heavy, is imported now.

        Raises:
            ValueError: no such class, or one that does not extend its options'.
        """
        cls = find_class(self.target, f"{self.where}._target_", self.trusted)
        if isinstance(self.options, cls):
            return self.options
        if not issubclass(cls, type(self.options)):
            raise ValueError(f"{self.where}._target_={self.target}: does not extend {type(self.options).__name__}")
        return cls(**{option.name: getattr(self.options, option.name) for option in fields(self.options)})


def read_choice(node: DictConfig, where: str, trusted: Sequence[str] = ()) -> Choice:
    """Check every key, type and range of a node against the dataclass of its options.

    Args:
        node: with a `_target_`, and an `_options_` where the target is heavy.
        where: its key, one of `KINDS`.
        trusted: packages beside this project's that it may name classes of.

    Raises:
        ValueError: unknown key, wrong type, a value out of range, with its full name; a class of elsewhere.
    """
    if not OmegaConf.is_dict(node):
        raise ValueError(f"{where}={node}: must be a group of options, as in conf/")
    _check_variant(node, where)
    content = cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
    content.pop("_variants_", None)
    target = check_trusted(content.pop("_target_", None), f"{where}._target_", trusted)
    named_by = "_options_" if "_options_" in content else "_target_"
    cls = find_class(content.pop("_options_", target), f"{where}.{named_by}", trusted)
    if not (issubclass(cls, KINDS[where]) and is_dataclass(cls)):
        raise ValueError(f"{where}.{named_by}={cls.__module__}.{cls.__qualname__}: must extend {KINDS[where].__name__}")
    check_values(content, where)
    _check_keys(content, cls, where)
    options = _writable(OmegaConf.structured(cls))
    for key, value in content.items():
        try:
            options = cast(DictConfig, OmegaConf.merge(options, {key: value}))
        except OmegaConfBaseException as error:
            said = error.msg.splitlines()[0] if error.msg else str(error)
            raise ValueError(f"{where}.{error.full_key or key}: {said}") from error
    check_values(OmegaConf.to_container(options), where)  # once more: "1e99" was a text
    return Choice(where, target, OmegaConf.to_object(options), tuple(trusted))


def _check_keys(content: dict[str, Any], cls: type, where: str) -> None:
    """Refuse what is no field, in groups of options inside too."""
    declared = get_type_hints(cls)
    for key, value in content.items():
        if key not in declared or key not in {option.name for option in fields(cls)}:
            known = [option.name for option in fields(cls)]
            raise ValueError(f"{where}.{key}={value}: no such option; {nearest(str(key), known)}")
        if value == "???":
            raise ValueError(f"{where}.{key} is required: give it as {where}.{key}=…")
        if is_dataclass(declared[key]):
            if not isinstance(value, dict):
                raise ValueError(f"{where}.{key}={value}: must be a group of options, as in conf/")
            _check_keys(value, cast(type, declared[key]), f"{where}.{key}")


def _check_variant(node: DictConfig, where: str) -> None:
    """Where a yaml lists `_variants_`, what its `variant` sets, refuse another: its settings refer to that list."""
    if "_variants_" in node and (variant := node.get("variant")) not in node._variants_:
        raise ValueError(f"{where}.variant={variant}: {nearest(str(variant), list(map(str, node._variants_)))}")


def build_node(node: DictConfig, where: str, trusted: Sequence[str] = ()) -> Any:
    """The object that a node describes; see `read_choice` for what is refused."""
    return read_choice(node, where, trusted).build()


def read_integer(config: DictConfig, key: str, minimum: int, why: str = "", where: str = "") -> int:
    """A whole number of a config.

    Raises:
        ValueError: something else, or one below `minimum`; `why` says what for.
    """
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{where}{key}={value}: must be an integer of at least {minimum}{why}")
    check_values(value, f"{where}{key}")
    return value


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
