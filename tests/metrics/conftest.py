"""Tiny real components shared by the metrics tests."""

import string

import pytest
import torch
from torch import nn

from metrics.extractors.base import VideoExtractor, state_dict_sha256


class TinyExtractor(VideoExtractor):
    """A random projection of block means, to have an extractor in milliseconds."""

    name = "tiny"
    num_features = 8
    min_frames = 2

    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(3 * 2 * 4 * 4, self.num_features).double()
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.projection.weight, generator=generator)
        self.sha256 = state_dict_sha256(self)

    def features(self, videos):
        pooled = nn.functional.adaptive_avg_pool3d(videos.double().transpose(1, 2) / 255, (2, 4, 4))
        return self.projection(pooled.flatten(1))


@pytest.fixture
def extractor():
    return TinyExtractor()


@pytest.fixture
def videos():
    """Two different sets of uint8 videos (24, 4, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (24, 4, 3, 16, 16), generator=generator).to(torch.uint8)
    return real, (real.roll(1, 0).float() * 0.7 + 20).to(torch.uint8)


@pytest.fixture(scope="session")
def clip():
    """A random CLIP of transformers whose tokens are single letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    from metrics.clipsim import ClipScorer

    torch.manual_seed(0)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {"vocab_size": 28, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=layers | text, vision_config=layers | vision, projection_dim=16))
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, merges=[], model_max_length=77)
    return ClipScorer(model, tokenizer)


@pytest.fixture(scope="session")
def clip_folder(clip, tmp_path_factory):
    """The same, saved."""
    folder = tmp_path_factory.mktemp("clip")
    clip.model.save_pretrained(folder)
    clip.tokenizer.save_pretrained(folder)
    return folder
