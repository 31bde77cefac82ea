"""The named protocols: the yaml files of conf/protocol, for `run.py` and for `metrics.cli` alike."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from metrics.files.text import read_text
from metrics.options import ClipChoice, Prompts, Protocol, Resize

PROTOCOLS = Path(__file__).parent.parent / "conf" / "protocol"


def load_protocol(name: str | Path) -> Protocol:
    """A protocol by its name in conf/protocol, or from a yaml file of the same keys.

    Raises:
        ValueError: no such name or file, a key or value that is not allowed.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else PROTOCOLS / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(_not_found(str(name), path))
    content = _mapping(path)
    content.pop("_target_", None)
    known = [field.name for field in fields(Protocol)]
    for key in content:
        if key not in known:
            raise ValueError(f"{path}: protocol.{key}: no such option; allowed are {', '.join(known)}")
    required = [field.name for field in fields(Protocol) if field.default is field.default_factory is MISSING]
    if missing := [key for key in required if key not in content]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}, which a protocol must say")
    for key, options in (("choice", ClipChoice), ("resize", Resize), ("prompts", Prompts)):
        if key in content:
            if content[key] not in list(options):
                raise ValueError(f"{path}: protocol.{key}={content[key]}: allowed are {', '.join(options)}")
            content[key] = options(content[key])
    try:
        return Protocol(**content)
    except TypeError as error:  # a number is no number
        raise ValueError(f"{path}: {error}") from None


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not yaml: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{path}: must hold the options of a protocol, one `key: value` a line")
    return content


def _not_found(name: str, path: Path) -> str:
    if path.parent != PROTOCOLS:
        return f"protocol {name}: no such file"
    if not PROTOCOLS.is_dir():
        return (
            f"protocol {name}: the named protocols are files of the repository's conf/protocol, which is not beside "
            "this installed package; give the path of a yaml file, or run from the repository"
        )
    allowed = sorted(file.stem for file in PROTOCOLS.glob("*.yaml"))
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"protocol {name}: allowed are {', '.join(allowed)}{hint}, or the path of a yaml file"
