"""The words of a command line against the config that its choices make: refused here in one line, before Hydra
composes, which takes any key that has a plus."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from experiments.config.groups import GROUPS, KINDS, choices_of, load_choice, load_main
from experiments.config.names import MOST_LETTERS
from experiments.config.nodes import nearest
from experiments.config.trust import check_hydras_words, trusted_packages
from experiments.config.words import parse_words, refuse_sweeps, values


def check_words(words: Sequence[str], is_sweep: bool = True) -> tuple[str, ...]:
    """Check every word of a command line, and return the packages that it trusts.

    Args:
        is_sweep: whether several values of one option are a sweep; else they are refused.

    Raises:
        ValueError: a word that Hydra cannot read, a choice that is not in conf/, a key that no config has, naming the
            nearest; foreign classes.
    """
    overrides = parse_words(words)
    if not is_sweep and all(override.key_or_group != "hydra.mode" for override in overrides):
        refuse_sweeps(overrides, GROUPS)
    trusted = trusted_packages(overrides)
    check_hydras_words(overrides, trusted)
    chosen = {override.key_or_group: _chosen(override) for override in overrides if override.key_or_group in GROUPS}
    tree = _Tree(chosen)
    for override in overrides:
        if override.key_or_group not in GROUPS and not override.key_or_group.startswith(("hydra.", "hydra/")):
            tree.check(override)
    return trusted


def _chosen(override: Override) -> list[str]:
    """The choices that the word of a group makes."""
    group, allowed = override.key_or_group, choices_of(override.key_or_group)
    if override.is_delete():
        raise ValueError(f"~{group}: a run needs one; {nearest('', allowed)}")
    chosen = values(override, allowed)
    for choice in chosen:
        if choice not in allowed:
            raise ValueError(f"{group}={choice[:MOST_LETTERS]}: {nearest(choice, allowed)}")
    if not chosen:
        raise ValueError(f"{override.input_line}: matches none; {nearest('', allowed)}")
    if override.package is not None or override.is_add() or override.is_force_add():
        raise ValueError(f"{override.input_line}: there is one already; write {group}={','.join(chosen)}")
    return chosen


class _Tree:
    """The keys of the config, those of a group for each of its choices."""

    def __init__(self, chosen: Mapping[str, list[str]]) -> None:
        main, defaults = load_main()
        self.alternatives: dict[str, dict[str, Any]] = {}  # first key → what it may be called in full → its content
        for group, default in defaults.items():
            own = main.pop(group, OmegaConf.create({}))
            self.alternatives[group] = {
                f"{group}={choice}": _plain(OmegaConf.merge(own, load_choice(group, choice)))
                for choice in chosen.get(group, [default])
            }
        self.alternatives |= {key: {key: value} for key, value in _plain(main).items()}

    def check(self, override: Override) -> None:
        """Refuse a word for a key that is not there, or is, with a plus."""
        key, word = override.key_or_group, str(override.input_line)
        if override.package is not None:
            raise ValueError(f"{word}: no such option; @ is for Hydra's own groups")
        if override.is_delete():
            raise ValueError(f"{word}: an option can be set, not deleted")
        first, *steps = key.split(".")
        if first not in self.alternatives:
            raise ValueError(f"{word.lstrip('+')}: no such option; {self._meant(key, list(self.alternatives))}")
        for name, content in self.alternatives[first].items():
            self._check(override, name, first, steps, content)

    def _check(self, override: Override, name: str, place: str, steps: Sequence[str], content: Any) -> None:
        word, has_plus = str(override.input_line), override.is_add() or override.is_force_add()
        for step in steps:
            if isinstance(content, list):
                if not step.isdecimal() or int(step) >= len(content):
                    raise ValueError(f"{word}: {place} has {len(content)} entries, counted from 0")
                content = content[int(step)]
            elif not isinstance(content, dict):
                raise ValueError(f"{word}: {place} is no group of options")
            elif step in content:
                content = content[step]
            elif has_plus and place.partition(".")[0] in KINDS:
                return  # its options may have more than its yaml: `read_choice` knows them
            else:
                meant = self._meant(f"{place}.{step}", [key for key in content if not key.startswith("_")])
                raise ValueError(f"{word.lstrip('+')}: no such option of {name}; {meant}")
            place = f"{place}.{step}"
        value = None if override.is_sweep_override() else override.value()
        if isinstance(content, list) and isinstance(value, dict):
            raise ValueError(f"{word}: must be a list")
        if isinstance(content, dict) and isinstance(value, list):
            raise ValueError(f"{word}: must be a group of options")
        if override.is_add():
            raise ValueError(f"{word}: it is there already; write {word.lstrip('+')}")

    def _meant(self, key: str, siblings: list[str]) -> str:
        """The nearest key of all, by its whole name or by its last part; or else what is allowed beside it."""
        firsts = {start: next(iter(contents.values())) for start, contents in self.alternatives.items()}
        every = [name for start, content in firsts.items() for name in _keys(start, content)]
        last = {name: name.rpartition(".")[2] for name in every}
        if same := [name for name in every if last[name] == key.rpartition(".")[2]]:
            return f"did you mean {' or '.join(same)}?"
        if close := difflib.get_close_matches(key, every, n=1, cutoff=0.75):
            return f"did you mean {close[0]}?"
        if close := difflib.get_close_matches(key.rpartition(".")[2], list(last.values()), n=1, cutoff=0.75):
            return f"did you mean {next(name for name in every if last[name] == close[0])}?"
        return nearest(key, siblings)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)


def _keys(start: str, content: Any) -> Iterator[str]:
    """Dotted names of an option and of those inside it."""
    yield start
    if isinstance(content, dict):
        for name, inner in content.items():
            if not name.startswith("_"):
                yield from _keys(f"{start}.{name}", inner)
