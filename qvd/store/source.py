"""Which code a result depends on: the modules that its own imports, transitively, and a digest of what they do.

Found without importing anything: from the syntax trees, wherever an import stands in them. Modules are followed that
lie beside an entry or beside this repository's packages, so never a library's.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from qvd.store.syntax import NormalForm, normal_form

ROOT = Path(__file__).parents[2]
PACKAGES = ("qvd", "baselines", "metrics", "experiments")
LIBRARIES = ("torch", "diffusers", "transformers")
_SHORT = 12  # hex digits that tell a module's versions apart


@cache
def reached_modules(*entries: str) -> tuple[str, ...]:
    """The modules that `entries` import, transitively, packages on the way and themselves included.

    Args:
        entries: dotted names, of this repository or of anything that has been imported.

    Raises:
        ValueError: an entry without source.
    """
    return tuple(sorted(_reached(entries)))


@cache
def code_digest(*entries: str) -> str:
    """SHA-256 over what counts of the modules reached from `entries`, and the libraries that hold networks.

    Part of a stage's inputs: a result made by code that has changed since is never reused.
    """
    return hashlib.sha256(json.dumps(_digests(entries), sort_keys=True).encode()).hexdigest()


def module_digests(*entries: str) -> dict[str, str]:
    """What `code_digest` is made of, shortened: module → the beginning of its digest, library → version."""
    return {name: digest[:_SHORT] for name, digest in _digests(entries).items()}


def changed_modules(recorded: Mapping[str, str], *entries: str) -> list[str]:
    """The modules, and libraries, that were added, removed or changed since `module_digests` was recorded."""
    current = module_digests(*entries)
    return sorted(name for name in recorded.keys() | current.keys() if recorded.get(name) != current.get(name))


@cache
def _digests(entries: tuple[str, ...]) -> dict[str, str]:
    modules = {name: _form(path).digest for name, path in sorted(_reached(entries).items())}
    return modules | {library: version(library) for library in LIBRARIES}


@cache
def _reached(entries: tuple[str, ...]) -> dict[str, Path]:
    files = {name: _entry_file(name) for name in entries}
    homes = tuple(dict.fromkeys([ROOT, *(_home(name, path) for name, path in files.items())]))
    tops = frozenset({*PACKAGES, *(name.partition(".")[0] for name in entries)})
    found: dict[str, Path] = {}
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        path = files.get(name) or _find(name, homes, tops)
        if name in found or path is None:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imported(name, path)]
    return found


def _imported(name: str, path: Path) -> Iterator[str]:
    """Modules that a module may import: for `from a import b` both a and a.b, whichever there is."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for statement in _form(path).imports:
        base = statement.module
        if statement.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - statement.level + 1], *filter(None, [statement.module])])
        yield base
        yield from (f"{base}.{imported}" for imported in statement.names)


@cache
def _form(path: Path) -> NormalForm:
    return normal_form(path.read_bytes())


def _entry_file(name: str) -> Path:
    path = _find(name, (ROOT,), frozenset(PACKAGES))
    if path is None:
        path = Path(getattr(sys.modules.get(name), "__file__", None) or "")
        if path.suffix != ".py":
            raise ValueError(f"module {name} has no source file: results cannot be kept under its code")
    return path


def _home(name: str, path: Path) -> Path:
    """The folder that holds a module's top-level package."""
    return path.parents[name.count(".") + (path.name == "__init__.py")]


@cache
def _find(name: str, homes: tuple[Path, ...], tops: frozenset[str]) -> Path | None:
    """The file of a module below one of `homes`; where libraries lie, only of the packages `tops`."""
    parts = name.split(".")
    for home in homes:
        if home.name in ("site-packages", "dist-packages") and parts[0] not in tops:
            continue
        path = home.joinpath(*parts)
        for file in (path / "__init__.py", path.with_name(f"{parts[-1]}.py")):
            if file.is_file():
                return file
    return None
