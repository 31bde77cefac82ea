"""CLIPSIM (Wu et al. 2021, GODIVA): how well a video agrees with its prompt, by any CLIP of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from metrics.extractors.base import state_dict_sha256
from metrics.files.weights import check_vocabulary
from metrics.pretrained import load_network, load_part

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
SHAPES_CLIP = Path(__file__).parent / "extractors" / "weights" / "shapes_clip"
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipScorer(nn.Module):
    """CLIP embeddings of frames and prompts, and the scores made of them.

    Args:
        model: a transformers CLIPModel.
        tokenizer: its tokenizer.
        mean: per RGB channel, of pixels in 0–1.
        std: likewise.
        name: as printed beside a value.
        evalcrafter_compat: feed raw 0–255 pixels, as the evaluator behind some published values does (0.197 for
            full-precision models); only to compare with those.
        batch_size: frames per forward pass.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: transformers.CLIPModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        mean: Sequence[float] = OPENAI_MEAN,
        std: Sequence[float] = OPENAI_STD,
        name: str = "clip",
        evalcrafter_compat: bool = False,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.evalcrafter_compat = evalcrafter_compat
        self.batch_size = batch_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @classmethod
    def from_pretrained(cls, path: str | Path = DEFAULT_CLIP, **kwargs: Any) -> ClipScorer:
        """Load the model, tokenizer and, where `preprocessor_config.json` is present, its normalisation.

        Args:
            path: hub id or folder; `shapes_clip` is the embedded one.
            kwargs: of the constructor.

        Raises:
            ValueError: a CLIP that cannot be read, weights that are missing or of other shapes, or a tokenizer that is
                not its own; in one line.
        """
        name, path = str(path), clip_folder(path)
        where = f"CLIP {name}"
        try:
            config, _ = transformers.ImageProcessingMixin.get_image_processor_dict(path)
        except OSError:
            config = {}
        normalisation = {
            "mean": config.get("image_mean", OPENAI_MEAN),
            "std": config.get("image_std", OPENAI_STD),
        }
        # transformers would keep a checkpoint's fp16, which is slow and coarse on a CPU.
        model = load_network(transformers.CLIPModel, path, where, dtype=torch.float32)
        tokenizer = load_part(transformers.AutoTokenizer, path, where, trust_remote_code=False)
        check_vocabulary(tokenizer, model.config.text_config.vocab_size, f"{where}: tokenizer")
        return cls(model, tokenizer, **{"name": name, **normalisation, **kwargs})

    @property
    def sha256(self) -> str:
        """SHA-256 of the model's weights."""
        return state_dict_sha256(self.model)

    @property
    def max_tokens(self) -> int:
        """How many tokens of a prompt are read."""
        return self.model.config.text_config.max_position_embeddings

    def cut_prompts(self, prompts: Sequence[str]) -> list[str]:
        """The distinct prompts that are longer, and lose their ends."""
        return beyond(self.tokenizer, self.max_tokens, prompts)

    @torch.inference_mode()
    def encode_frames(self, videos: Tensor) -> Tensor:
        """Unit-length embeddings (B, T, E) of uint8 videos (B, T, 3, H, W); one pass per frame."""
        if videos.dtype != torch.uint8 or videos.ndim != 5:
            raise ValueError(f"CLIP takes uint8 (B, T, 3, H, W), got {videos.dtype} {tuple(videos.shape)}")
        batches = videos.flatten(0, 1).split(self.batch_size)
        embeddings = [self.model.get_image_features(pixel_values=self._preprocess(b)).pooler_output for b in batches]
        return F.normalize(torch.cat(embeddings), dim=-1).unflatten(0, videos.shape[:2])

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Unit-length embeddings (N, E) of prompts; each distinct prompt is encoded once, cut to CLIP's length."""
        distinct = list(dict.fromkeys(prompts))
        tokens = self.tokenizer(
            distinct,
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.mean.device)
        embeddings = F.normalize(self.model.get_text_features(**tokens).pooler_output, dim=-1)
        return embeddings[[distinct.index(p) for p in prompts]]

    def _preprocess(self, frames: Tensor) -> Tensor:
        """CLIP's own: bicubic on the shorter side with antialiasing, centre crop, normalise."""
        size = self.model.config.vision_config.image_size
        shorter = min(frames.shape[-2:])
        height, width = (size * side // shorter for side in frames.shape[-2:])
        frames = F.interpolate(frames.to(self.mean.device), (height, width), mode="bicubic", antialias=True)
        top, left = (height - size) // 2, (width - size) // 2
        frames = frames[..., top : top + size, left : left + size].float()
        return frames if self.evalcrafter_compat else (frames / 255 - self.mean) / self.std


def cut_prompts(clip: str | Path, prompts: Sequence[str]) -> tuple[int, list[str]]:
    """How many tokens a CLIP reads of a text, and the distinct prompts that have more; its weights are not loaded.

    Args:
        clip: as of `ClipScorer.from_pretrained`.

    Raises:
        ValueError: a CLIP that cannot be read, in one line.
    """
    where, path = f"CLIP {clip}", clip_folder(clip)
    limit = load_part(transformers.CLIPConfig, path, where).text_config.max_position_embeddings
    tokenizer = load_part(transformers.AutoTokenizer, path, where, trust_remote_code=False)
    return limit, beyond(tokenizer, limit, prompts)


def beyond(tokenizer: transformers.PreTrainedTokenizerBase, limit: int, prompts: Sequence[str]) -> list[str]:
    """The distinct prompts that have more tokens than `limit`."""
    distinct = list(dict.fromkeys(prompts))
    lengths = map(len, tokenizer(distinct, verbose=False).input_ids)
    return [prompt for prompt, length in zip(distinct, lengths, strict=True) if length > limit]


def clip_folder(name: str | Path) -> str | Path:
    """Where a CLIP's files are: the embedded folder for `shapes_clip`, otherwise the name itself."""
    return SHAPES_CLIP if str(name) == "shapes_clip" else name


def prompt_similarity(frame_embeddings: Tensor, prompt_embeddings: Tensor) -> Tensor:
    """Mean cosine between a video's frames (B, T, E) and its prompt (B, E); (B,), not ×100, not clamped."""
    return F.cosine_similarity(frame_embeddings, prompt_embeddings[:, None], dim=-1).mean(1)


def clip_scores(scorer: ClipScorer, videos: Tensor, prompts: Sequence[str]) -> Tensor:
    """CLIPSIM of each video with its prompt; the metric is the mean, its interval `bootstrap_mean_interval`.

    For CLIP-Temp from the same pass use `scorer.encode_frames` with `metrics.temporal.neighbour_similarity`.

    Args:
        scorer: the CLIP to use.
        videos: uint8 (N, T, 3, H, W).
        prompts: N texts.

    Returns:
        float32 (N,), cosines from −1 to 1.

    Raises:
        ValueError: numbers of videos and prompts differ, or videos are not uint8.
    """
    if len(videos) != len(prompts):
        raise ValueError(f"{len(videos)} videos but {len(prompts)} prompts")
    return prompt_similarity(scorer.encode_frames(videos), scorer.encode_prompts(prompts)).cpu()
