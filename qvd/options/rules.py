"""The import-light choices of a quantizer's config: how ranges are found, and which bits a layer gets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from qvd.options.bits import ACTIVATION_BITS, WEIGHT_BITS


class RangeMethod(Enum):
    """How a clipping range is found: `minmax`, or `lp`, the least p-norm error over 80 shrunken ranges."""

    minmax = "minmax"
    lp = "lp"


class ActivationGranularity(Enum):
    """What shares one grid of an activation.

    `tensor`: everything, always (static). `timestep`: one sampler step (static). `frame`: one frame (static). `token`:
    one token of one call (dynamic, as ViDiT-Q).
    """

    tensor = "tensor"
    timestep = "timestep"
    frame = "frame"
    token = "token"


@dataclass(frozen=True)
class LayerRule:
    """Bits for every layer or attention operand whose name matches.

    Attributes:
        pattern: fnmatch pattern on module names (`*.temp_convs.*`) or operands (`*.attn1.probabilities`).
        weight_bits, activation_bits: null is floating point. Operands have no weight.
    """

    pattern: str
    weight_bits: int | None
    activation_bits: int | None

    def __post_init__(self) -> None:
        for field, allowed in (("weight_bits", WEIGHT_BITS), ("activation_bits", ACTIVATION_BITS)):
            value = getattr(self, field)
            if value is not None and value not in allowed:
                span = f"{allowed.start}…{allowed.stop - 1}"
                raise ValueError(f"quantizer.rules[{self.pattern!r}].{field}={value}: must be null or in {span}")


@dataclass(frozen=True)
class SiteBits:
    """The outcome for one site: its bits and the rule that decided them."""

    weight: int | None
    activation: int | None
    rule: str


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
