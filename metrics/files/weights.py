"""What folders of weights say and lack, as the words of one line: of models and of metrics' networks alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

CODE_KEYS = ("auto_map", "trust_remote_code")
"""Of a config: code that came with the weights, which is never run."""

MOST_LETTERS = 300  # of a library's own message
_MOST_NAMED = 3


def counted(what: str, names: Iterable[str]) -> list[str]:
    """No line, or one: how many, and the first of them by name."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:_MOST_NAMED]) + (", …" if len(ordered) > _MOST_NAMED else "")
    return [f"{len(ordered)} {what} ({shown})"] if ordered else []


def library_reason(error: BaseException) -> str:
    """What a library says of a file that it cannot read."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MOST_LETTERS]}"


def check_vocabulary(tokenizer: Any, embeddings: int, where: str) -> None:
    """Refuse a tokenizer of transformers that knows no words, or more than the text encoder has embeddings for.

    Raises:
        ValueError: in which way.
    """
    vocabulary = tokenizer.get_vocab()
    words = vocabulary.keys() - {*tokenizer.all_special_tokens}
    if not any(letter.isalnum() for word in words for letter in word):
        raise ValueError(f"{where}: it has no vocabulary")
    if max(vocabulary.values()) >= embeddings:
        raise ValueError(
            f"{where}: it counts to {max(vocabulary.values())}, the text encoder has {embeddings} embeddings"
        )
