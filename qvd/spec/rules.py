"""Which bits every site of a denoiser gets: the run's, a method's exceptions, the user's rules."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from qvd.options.bits import Bits
from qvd.options.rules import LayerRule


@dataclass(frozen=True)
class SiteBits:
    """The outcome for one site: its bits and the rule that decided them."""

    weight: int | None
    activation: int | None
    rule: str


def exceptions_at(bits: Bits, layers: Mapping[str, Iterable[str]]) -> dict[str, SiteBits]:
    """`bits` for every layer of every rule; rule → layers."""
    return {name: SiteBits(bits.weight, bits.activation, rule) for rule, names in layers.items() for name in names}


def restrict(bits: Mapping[str, SiteBits], patterns: Sequence[str]) -> dict[str, SiteBits]:
    """`bits` with floating point everywhere but where a pattern matches.

    Raises:
        ValueError: a pattern that matches nothing, with the nearest valid names.
    """
    kept: set[str] = set()
    for pattern in patterns:
        kept.update(matching(pattern, bits, f"quantizer.only={pattern!r}"))
    return {name: site if name in kept else SiteBits(None, None, "only") for name, site in bits.items()}


def apply_rules(bits: dict[str, SiteBits], rules: Sequence[LayerRule]) -> dict[str, SiteBits]:
    """`bits` with the rules applied in order, so that the last match wins.

    Raises:
        ValueError: a pattern that matches nothing, with the nearest valid names.
    """
    result = dict(bits)
    for i, rule in enumerate(rules):
        matched = matching(rule.pattern, bits, f"quantizer.rules[{i}].pattern={rule.pattern!r}")
        label = f"rules[{i}] {rule.pattern}"
        result |= {name: SiteBits(rule.weight_bits, rule.activation_bits, label) for name in matched}
    return result


def matching(pattern: str, names: Iterable[str], option: str) -> list[str]:
    """The names that a pattern matches.

    Raises:
        ValueError: none does; `option` says where the pattern came from.
    """
    names = list(names)
    matched = [name for name in names if fnmatchcase(name, pattern)]
    if not matched:
        raise ValueError(f"{option}: matches no layer; nearest: {nearest(pattern, names)}")
    return matched


def nearest(pattern: str, names: Iterable[str], count: int = 3) -> str:
    """The names most like a pattern, comma-separated."""
    return ", ".join(difflib.get_close_matches(pattern, list(names), n=count, cutoff=0.0))
