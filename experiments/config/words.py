"""The words of a command line as Hydra reads them: read first here, so that what it cannot read is one line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, Sweep
from hydra.errors import HydraException

_SHOWN = 40  # letters of what cannot be read


def parse_words(words: Sequence[str]) -> list[Override]:
    """Each word, read by Hydra's own grammar.

    Raises:
        ValueError: a word outside of it, with the quoted form that works.
    """
    return [_parse(word) for word in words]


def values(override: Override, allowed: Sequence[str]) -> list[str]:
    """What the word of a group chooses among `allowed`: one name, or those of a sweep (`a,b`, choice, glob, …)."""
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(list(allowed))
    if isinstance(value, ChoiceSweep):
        return [_text(element) for element in value.list]
    return list(override.sweep_string_iterator()) if isinstance(value, Sweep) else [_text(value)]


def refuse_sweeps(overrides: Sequence[Override], groups: Sequence[str]) -> None:
    """Refuse words with several values, which only a sweep takes.

    Raises:
        ValueError: one such word, with the quoted form that is one text where it is for none of the `groups`.
    """
    for override in overrides:
        if override.is_sweep_override():
            word = str(override.input_line)
            key, _, value = word.partition("=")
            quoted = shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
            as_text = "" if key in groups else f"; for one text write {quoted}"
            raise ValueError(f"{word}: several values are a sweep, with --multirun{as_text}")


def _text(element: object) -> str:
    if element is None:
        return "null"
    return element.text if isinstance(element, QuotedString) else str(element)


def _parse(word: str) -> Override:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word}: no value; words are key=value") from None
        raise ValueError(f"{word}: {_advice(key, value)}") from None
    except ValueError as error:  # of Python, which reads no number of thousands of digits
        key, _, value = word.partition("=")
        raise ValueError(f"{key}={value[:_SHOWN]}…: not a value that can be read") from error


def _advice(key: str, value: str) -> str:
    """How to give a value that Hydra's grammar has no place for."""
    if value.startswith(("[", "{", "(")):
        return "not a list or mapping that Hydra can read; quote the texts in it, as in ['…']"
    quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
    try:
        OverridesParser.create().parse_override(quoted)
    except HydraException:
        return f"not a word that Hydra can read: {key!r} is no key"
    return f"Hydra reads such characters in quotes alone; write {shlex.quote(quoted)}"


def option_words(options: Mapping[Any, Any], where: str) -> Iterator[str]:
    """The command-line words that set options, those of a group one by one."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from option_words(value, f"{where}.{key}")
        else:
            yield f"{where}.{key}={value if isinstance(value, str) else _written(value)}"


def _written(value: Any) -> str:
    """A value as Hydra's grammar has it; within a list or a mapping, texts are quoted."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Sequence):
        return "[" + ",".join(map(_written, value)) + "]"
    return "null" if value is None else str(value)
