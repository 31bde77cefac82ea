"""Whose classes a config may name: this project's, and those of packages that the command line trusts.

A config is often somebody else's, and to import a module is to run it.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

PROJECT = ("qvd", "baselines", "metrics", "experiments")
HYDRAS = ("hydra", "hydra_plugins", "logging")  # what Hydra's own part of a config may name too
NAMES_CODE = ("_target_", "_options_", "class", "()")  # keys whose values are imported; the last two by `logging`
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def trusted_packages(overrides: Sequence[Override]) -> tuple[str, ...]:
    """What a command line's `trusted=[…]` names.

    Raises:
        ValueError: anything else than a list of top-level packages.
    """
    names: tuple[str, ...] = ()
    for override in overrides:
        if override.key_or_group != "trusted":
            continue
        value = override.value()
        if not isinstance(value, list) or not all(isinstance(name, str) and name.isidentifier() for name in value):
            raise ValueError(f"{override.input_line}: must be a list of packages, as in trusted=[mypackage]")
        names = tuple(map(str, value))
    return names


def check_hydras_words(overrides: Sequence[Override], trusted: Sequence[str]) -> None:
    """Refuse foreign classes in words for Hydra's own part, which it imports before anything of ours runs.

    Raises:
        ValueError: naming the word's key and the package.
    """
    for override in overrides:
        if override.key_or_group.startswith("hydra."):
            value = override.value() if not override.is_sweep_override() else override.input_line
            for key, named in _leaves(override.key_or_group, value):
                if key.endswith(tuple(f".{name}" for name in NAMES_CODE)):
                    check_trusted(named, key, (*HYDRAS, *trusted))


def check_trusted(named: Any, where: str, trusted: Sequence[str] = ()) -> str:
    """The dotted name of a class of a package of this project, or of a trusted one; nothing is imported.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(named, str) or not _DOTTED.fullmatch(named):
        raise ValueError(f"{where}={named}: must be a class, as in mypackage.mymodule.MyClass")
    package = named.partition(".")[0]
    if package not in (*PROJECT, *trusted):
        raise ValueError(
            f"{where}={named}: {package} is no package of this project; to run its code, give "
            f"trusted=[{package}] on the command line"
        )
    return named


def find_class(named: Any, where: str, trusted: Sequence[str] = ()) -> type:
    """The class; only now is its module imported.

    Raises:
        ValueError: a package that is not trusted, no such class, or one that the module has from elsewhere.
    """
    module, _, name = check_trusted(named, where, trusted).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where}={named}: no such class ({' '.join(str(error).split())})") from error
    if not isinstance(found, type) or inspect.isabstract(found):
        raise ValueError(f"{where}={named}: must be a class that objects can be made of")
    check_trusted(f"{found.__module__}.{found.__qualname__}", where, trusted)
    return found


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(key, inner)
    else:
        yield key, value
