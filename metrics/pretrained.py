"""Networks in transformers' format, loaded whole or refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

CODE_KEYS = ("auto_map", "trust_remote_code")
MOST_NAMED = 3  # weights that a message names
MOST_LETTERS = 300  # of a library's own message


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
    wrong = [*_counted("missing", info["missing_keys"]), *_counted("of other shapes", shapes)]
    unused = _counted("not used", info["unexpected_keys"])
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
        reason = " ".join(str(error).split())[:MOST_LETTERS]
        raise ValueError(f"{where}: cannot be loaded: {type(error).__name__}: {reason}") from error


def check_tokenizer(tokenizer: Any, embeddings: int, where: str) -> None:
    """Refuse a tokenizer that knows no words, or more than the network has embeddings for.

    Raises:
        ValueError: in which way.
    """
    vocabulary = tokenizer.get_vocab()
    words = vocabulary.keys() - {*tokenizer.all_special_tokens}
    if not any(letter.isalnum() for word in words for letter in word):
        raise ValueError(f"{where}: its tokenizer has no vocabulary")
    if max(vocabulary.values()) >= embeddings:
        raise ValueError(f"{where}: its tokenizer counts to {max(vocabulary.values())}, it has {embeddings} embeddings")


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


def _counted(what: str, names: Any) -> list[str]:
    """No line, or one: how many, and the first of them."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:MOST_NAMED]) + (", …" if len(ordered) > MOST_NAMED else "")
    return [f"{len(ordered)} {what} ({shown})"] if ordered else []
