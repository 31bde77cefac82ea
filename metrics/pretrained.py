"""Networks in transformers' format, loaded whole or refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

from metrics.files.weights import CODE_KEYS, counted, library_reason


def load_network(cls: Any, path: str | Path, where: str, **options: Any) -> Any:
    """`cls.from_pretrained(path, **options)`, which by itself fills what a folder lacks with random numbers.

    Args:
        where: names the network in messages.

    Raises:
        ValueError: a folder or hub name that cannot be read, or weights that are missing or of other shapes, by name.
    """
    _warn_of_code(Path(path), where)
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # so that all of them are named
    network, info = load_part(cls, path, where, **options)
    shapes = [f"{key} {tuple(found)} instead of {tuple(expected)}" for key, found, expected in info["mismatched_keys"]]
    wrong = [*counted("missing", info["missing_keys"]), *counted("of other shapes", shapes)]
    unused = counted("not used", info["unexpected_keys"])
    if wrong:
        raise ValueError(f"{where}: not the weights of {cls.__name__}: {'; '.join([*wrong, *unused])}")
    if unused:
        warnings.warn(f"{where}: weights that are {unused[0]}", stacklevel=2)
    return network


def load_part(cls: Any, path: str | Path, where: str, **options: Any) -> Any:
    """`cls.from_pretrained(path, **options)` of anything, a tokenizer too; no code that comes with it is run.

    Raises:
        ValueError: whatever the library raises, in one line.
    """
    try:
        return cls.from_pretrained(path, **options)
    except pickle.UnpicklingError as error:  # the library's own advice is to trust it
        raise ValueError(f"{where}: cannot be loaded: a pickle of something else than weights, not run") from error
    except Exception as error:
        raise ValueError(f"{where}: cannot be loaded: {library_reason(error)}") from error


def _warn_of_code(folder: Path, where: str) -> None:
    """Say what code a local folder names."""
    files = [folder / name for name in ("config.json", "tokenizer_config.json")]
    found = [
        f"{key} in {file.name}"
        for file in files
        if file.is_file()
        for key in CODE_KEYS
        if f'"{key}"' in file.read_text()
    ]
    if found:
        warnings.warn(f"{where}: names code of its own, which is never run: {', '.join(found)}", stacklevel=3)
