"""What a model's text encoder can take in of prompts."""

from __future__ import annotations

from collections.abc import Iterable

from qvd.models.base import ModelAdapter
from qvd.models.integrity import reading
from qvd.options.model import Init


def cut_prompts(adapter: ModelAdapter, prompts: Iterable[str]) -> tuple[int, list[str]]:
    """How many tokens the text encoder reads, and the distinct prompts that have more, of which it never sees the end.

    Of a model that reads no text (classes, random weights) none is cut, whatever the number.

    Raises:
        FileNotFoundError, ValueError: a folder without a tokenizer that can be read.
    """
    part = None if adapter.init is Init.random else adapter.parts().get("tokenizer")
    if part is None:
        return 0, []
    with reading(part.where):
        tokenizer = part.cls.from_pretrained(part.folder)
    limit = min(tokenizer.model_max_length, adapter.max_tokens or tokenizer.model_max_length)
    distinct = list(dict.fromkeys(prompts))
    lengths = map(len, tokenizer(distinct, verbose=False).input_ids)
    return limit, [prompt for prompt, length in zip(distinct, lengths, strict=True) if length > limit]
