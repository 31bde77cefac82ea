"""VideoMAE features for content-debiased FVD (Ge et al. 2024), which weighs motion more than I3D does."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
import transformers
from torch import Tensor

from metrics.checkpoint import load_weights_, read_checkpoint
from metrics.extractors.base import VideoExtractor, file_sha256, state_dict_sha256
from metrics.extractors.download import VIDEOMAE_GIANT, fetch
from metrics.pretrained import load_network


class VideoMAEExtractor(VideoExtractor):
    """The normalised mean of a fine-tuned VideoMAE's last tokens, before its classifier.

    As in cd-fvd, pixels are scaled to 0–1 and not standardised.

    Args:
        model: a classifier of transformers that pools by the mean.
        name: as printed beside a value.
        sha256: of the weights; by default computed from them.
    """

    resize = "bilinear, no antialias"

    def __init__(
        self, model: transformers.VideoMAEForVideoClassification, name: str = "videomae", sha256: str | None = None
    ) -> None:
        super().__init__()
        if model.fc_norm is None:
            raise ValueError(f"{name} pools its first token; content-debiased FVD needs use_mean_pooling=True")
        self.network = model.eval().requires_grad_(False)
        self.name = name
        self.sha256 = sha256 or state_dict_sha256(model)
        self.num_features = model.config.hidden_size
        self.min_frames = model.config.num_frames
        size = model.config.image_size
        self.input_size = (size, size) if isinstance(size, int) else (size[0], size[1])

    @classmethod
    def from_pretrained(cls, path: str | Path) -> VideoMAEExtractor:
        """Load a folder or hub name in transformers' format.

        Raises:
            ValueError: one that cannot be read, or weights that are missing or of other shapes; in one line.
        """
        name = f"videomae {path}"
        return cls(load_network(transformers.VideoMAEForVideoClassification, path, name), name=name)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path | None = None, config: transformers.VideoMAEConfig | None = None
    ) -> VideoMAEExtractor:
        """Load a checkpoint in the parameter names of the VideoMAE v2 repository.

        Args:
            path: the file; by default cd-fvd's ViT-g/14, downloaded once and its checksum verified (2 GB).
            config: of the network; by default that of ViT-g/14 on Something-Something v2.
        """
        path = path or fetch(VIDEOMAE_GIANT)
        checkpoint = read_checkpoint(path)
        model = transformers.VideoMAEForVideoClassification(config or vit_giant_config())
        state = from_videomae_v2(checkpoint.get("module", checkpoint.get("model", checkpoint)))
        load_weights_(model, state, path)
        assert model.fc_norm is not None
        # transformers leaves PyTorch's 1e-5 here; VideoMAE v2 uses one epsilon throughout.
        model.fc_norm.eps = model.config.layer_norm_eps
        return cls(model, f"videomae {Path(path).stem}", file_sha256(path))

    def features(self, videos: Tensor) -> Tensor:
        if videos.shape[1] != self.min_frames:
            raise ValueError(f"{self.name} needs exactly {self.min_frames} frames, got {videos.shape[1]}")
        frames = videos.flatten(0, 1).float() / 255
        frames = F.interpolate(frames, self.input_size, mode="bilinear", align_corners=False)
        tokens = self.network.videomae(frames.unflatten(0, videos.shape[:2])).last_hidden_state
        return self.network.fc_norm(tokens.mean(1))


def vit_giant_config() -> transformers.VideoMAEConfig:
    """ViT-g/14 as VideoMAE v2 defines it (Wang et al. 2023), with Something-Something v2's 174 classes."""
    return transformers.VideoMAEConfig(
        patch_size=14,
        hidden_size=1408,
        num_hidden_layers=40,
        num_attention_heads=16,
        intermediate_size=6144,
        layer_norm_eps=1e-6,
        id2label={i: str(i) for i in range(174)},
    )


RENAMED = {
    "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
    "blocks.": "videomae.encoder.layer.",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "head.": "classifier.",
}


def from_videomae_v2(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename VideoMAE v2's parameters to transformers' and split its fused query, key and value weights."""
    renamed = {}
    for key, value in state_dict.items():
        for old, new in RENAMED.items():
            key = key.replace(old, new)
        if key.endswith("attn.qkv.weight"):
            for part, weight in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[key.replace("attn.qkv", f"attention.attention.{part}")] = weight
        else:
            renamed[key] = value
    return renamed
