"""Which layers must share a channel transform: the readers of one norm, and q, k, v of a self-attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from diffusers.models.attention_processor import Attention
from torch import nn

from qvd.graph.sites import attention_modules

PROJECTIONS = ("to_q", "to_k", "to_v")


@dataclass
class ScriGroup:
    """Layers that read one tensor.

    Attributes:
        norm: the norm that absorbs the transform; None: the layers' quantize steps apply it.
        heads: of the self-attention whose q, k and v the members are; None: they are anything else.
    """

    norm: str | None = None
    heads: int | None = None
    members: list[str] = field(default_factory=list)


def transform_groups(denoiser: nn.Module, names: Iterable[str], absorbing: Mapping[str, list[str]]) -> list[ScriGroup]:
    """The groups of `names`, in their order.

    Args:
        denoiser: diffusers model.
        names: the layers that take a transform.
        absorbing: norm → its readers (`qvd.graph.absorb.absorbing_norms`); a norm absorbs only if all take part.
    """
    names = list(names)
    norm_of = {n: norm for norm, readers in absorbing.items() if set(readers) <= set(names) for n in readers}
    attention_of = {
        n: a for a in self_attentions(denoiser) for n in _projections(a) if set(_projections(a)) <= set(names)
    }
    groups: dict[str, ScriGroup] = {}
    for name in names:
        norm = norm_of.get(name)
        groups.setdefault(norm or attention_of.get(name, name), ScriGroup(norm)).members.append(name)
    for group in groups.values():
        attention = attention_of.get(group.members[0])
        if attention is not None and sorted(group.members) == sorted(_projections(attention)):
            group.heads = attention_modules(denoiser)[attention].heads
    return list(groups.values())


def self_attentions(denoiser: nn.Module) -> list[str]:
    """diffusers' attentions whose q, k and v read the same tensor, and whose output they alone determine."""
    return [
        name
        for name, attn in attention_modules(denoiser).items()
        if isinstance(attn, Attention) and not attn.is_cross_attention and attn.norm_q is None and attn.norm_k is None
    ]


def _projections(attention: str) -> list[str]:
    return [f"{attention}.{projection}" for projection in PROJECTIONS]
