"""The options of a config as dataclasses nest them: found by walking, each changed to another valid value."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any

from tests.end_to_end.names import Choice


@dataclass(frozen=True)
class Option:
    """One field of one dataclass of a config.

    Attributes:
        path: attribute names and list positions from the config to the field.
        owner: name of the class that declares it, the most general one.
        of: name of the class whose instance it was found in.
    """

    path: tuple[str | int, ...]
    owner: str
    of: str

    @property
    def field(self) -> str:
        return str(self.path[-1])

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))} ({self.owner}.{self.field})"


def options(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[Option]:
    """Every field below a dataclass that holds no dataclass itself; lists of dataclasses also as a whole."""
    for field in fields(node):
        value, here = getattr(node, field.name), (*path, field.name)
        nested = isinstance(value, list | tuple) and [item for item in value if is_dataclass(item)]
        if isinstance(value, Choice):
            if field.name != "fp_choice":  # no stage reads it
                yield from options(value.options, (*here, "options"))
            continue
        if is_dataclass(value):
            yield from options(value, here)
            continue
        if not (nested and isinstance(value, tuple)):  # a run's arms: each is computed by itself
            yield Option(here, _owner(type(node), field.name), type(node).__name__)
        if nested:
            yield from options(nested[0], (*here, 0))


def _owner(cls: type, name: str) -> str:
    return next(base.__name__ for base in reversed(cls.__mro__) if name in vars(base).get("__annotations__", {}))


def value_of(config: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        config = config[step] if isinstance(step, int) else getattr(config, step)
    return config


def changed(config: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """The config with another value at `path`; the dataclasses on the way check it again (ValueError)."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return type(config)([*config[:step], changed(config[step], rest, value), *config[step + 1 :]])
    return replace(config, **{step: changed(getattr(config, step), rest, value)})


def candidates(value: Any) -> list[Any]:
    """Other values of the same kind, of which some are valid."""
    match value:
        case bool():
            return [not value]
        case Enum():
            return [other for other in type(value) if other is not value]
        case int():
            return [value + 1, value - 1, 2 * value]
        case float():
            return [value * 0.9, value / 0.9, value + 0.5]
        case str():
            return [f"{value}x"]
        case list() | tuple():
            return [type(value)([*value, "*"])]
        case None:
            return [7]
    raise TypeError(f"no other value is known of {value!r}")
