"""Parts of a pipeline, loaded whole or refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

from metrics.files.weights import check_vocabulary
from qvd.models.integrity import Part, check_loading, load_scheduler, reading

# Weights in the names of diffusers and transformers, sharded or not: `model.fp16-00001-of-00002.safetensors`.
WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:-\d{5}-of-\d{5})?(?:\.([^.]+?))?(?:-\d{5}-of-\d{5})?"
    r"\.(?:safetensors|bin)"
)
PLAIN = ""  # the variant of files that name none


def load_parts(parts: Mapping[str, Part], dtype: torch.dtype, variant: str | None) -> dict[str, Any]:
    """Load parts by name.

    Args:
        dtype: of the networks.
        variant: of the weights' files, such as "fp16"; None: whatever is there, the plain ones first.

    Raises:
        FileNotFoundError: no weights where there should be some.
        ValueError: weights that do not fit their network, a file that cannot be read, a variant that is not there or
            of which there are several; in one line that names the part.
    """
    variants = choose_variants({name: part for name, part in parts.items() if part.has_weights}, variant)
    loaded = {name: _load(part, dtype, variants.get(name)) for name, part in parts.items()}
    if "tokenizer" in loaded:
        check_tokenizer(loaded["tokenizer"], loaded["text_encoder"].config, parts["tokenizer"].where)
    return loaded


def _load(part: Part, dtype: torch.dtype, variant: str | None) -> Any:
    if not part.has_weights:
        if issubclass(part.cls, diffusers.SchedulerMixin):
            return load_scheduler(part.cls, part.folder, part.where)
        with reading(part.where):
            return part.cls.from_pretrained(part.folder)
    with reading(part.where):
        module, info = part.cls.from_pretrained(
            part.folder,
            dtype=dtype,
            variant=variant,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that all of them are named
        )
    check_loading(info, part.cls, part.where)
    return module


def choose_variants(parts: Mapping[str, Part], asked: str | None) -> dict[str, str | None]:
    """The variant of each part's weights that is read; None: the plain files."""
    there = {name: variants_in(part.folder) for name, part in parts.items()}
    chosen = {name: _choose(parts[name], found, asked) for name, found in there.items()}
    others = [name for name, variant in chosen.items() if (variant or None) != asked]
    if asked is not None and len(others) == len(chosen):
        raise ValueError(f"model.variant={asked}: of no part; {_said(there)}")
    if others:
        read = _said({name: {chosen[name]} for name in others})
        warnings.warn(f"model.variant={asked or 'null'}: {read}, which are read", stacklevel=3)
    return {name: variant or None for name, variant in chosen.items()}


def _choose(part: Part, there: set[str], asked: str | None) -> str:
    if not there:
        raise FileNotFoundError(f"{part.where}: no weights in {part.folder}")
    if (asked or PLAIN) in there:
        return asked or PLAIN
    if PLAIN in there:
        return PLAIN
    if asked is not None or len(there) > 1:
        raise ValueError(f"{part.where}: model.variant={asked or 'null'}: there are {' and '.join(sorted(there))}")
    return next(iter(there))


def _said(there: Mapping[str, set[str]]) -> str:
    return ", ".join(
        f"{name} has {' and '.join(v or 'plain' for v in sorted(found))} weights" for name, found in there.items()
    )


def variants_in(folder: Path) -> set[str]:
    """The variants of a folder's weights."""
    return {match[1] or PLAIN for path in folder.iterdir() if (match := WEIGHTS.fullmatch(path.name))}


def check_tokenizer(tokenizer: Any, encoder: Any, where: str) -> None:
    """Refuse a tokenizer that gives the text encoder what it has no embedding for.

    Args:
        encoder: the text encoder's config.

    Raises:
        ValueError: in which way.
    """
    check_vocabulary(tokenizer, encoder.vocab_size, where)
    positions = getattr(encoder, "max_position_embeddings", None)
    if positions is not None and tokenizer.model_max_length > positions:
        raise ValueError(
            f"{where}: model_max_length={tokenizer.model_max_length:.6g} in tokenizer_config.json, "
            f"the text encoder takes {positions} tokens"
        )
