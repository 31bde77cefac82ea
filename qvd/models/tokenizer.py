"""A CLIP tokenizer for the embedded models: byte-pair merges learned from the captions of `shapes`."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_LENGTH = 16


def build_caption_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Train a tokenizer in which every word of `captions` is one token and any other text still encodes.

    Args:
        captions: the corpus. The result depends on it alone.
    """
    corpus = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    corpus.normalizer = normalizers.Lowercase()
    corpus.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=1,
        end_of_word_suffix="</w>",
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus.train_from_iterator(captions, trainer)
    model = json.loads(corpus.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    vocabulary = dict(model["vocab"])
    # CLIP's scheme needs the word-final form of every byte as well, or single characters would be unknown.
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)
