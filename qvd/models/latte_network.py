"""Latte as its authors released it (github.com/Vchitect/Latte, models/latte.py; arXiv 2401.03048).

The class-conditional and unconditional denoiser with exactly the released parameter names; diffusers has only the
text-to-video one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import (
    get_1d_sincos_pos_embed_from_grid,
    get_2d_sincos_pos_embed,
    get_timestep_embedding,
)
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 256


@dataclass
class ClassLatteOutput(BaseOutput):
    """`sample` (B, T, out_channels, H, W): the prediction and, with learned sigma, the variance's channels."""

    sample: Tensor


class FusedAttention(nn.Module):
    """Self-attention with one projection for q, k and v.

    Attributes:
        processor: None for plain attention, else an `OperandAttnProcessor` that computes the two matmuls.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.processor: Any = None
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, L, C) → (B, L, C)."""
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.processor is not None:
            return self.proj(self.processor.attend(query, key, value))
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with tanh GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """A DiT block: attention and MLP, modulated by six vectors made from the conditioning."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6, elementwise_affine=False) for _ in range(2))
        self.attn = FusedAttention(width, heads)
        self.mlp = Mlp(width, int(mlp_ratio * width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x (B, sequences, L, C), attended along L; conditioning (B, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(conditioning)[:, None, None].chunk(
            6, dim=-1
        )
        attended = self.attn(modulate(self.norm1(x), shift1, scale1).flatten(0, 1)).view_as(x)
        x = x + gate1 * attended
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x·(1 + scale) + shift."""
    return x * (1 + scale) + shift


class PatchEmbed(nn.Module):
    """Images (N, C, H, W) → tokens (N, H·W/patch², width)."""

    def __init__(self, channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """256 sinusoids of the timestep (cosines first) through two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        sinusoids = get_timestep_embedding(timestep, FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.mlp(sinusoids.to(self.mlp[0].weight.dtype))


class LabelEmbedder(nn.Module):
    """One vector per class; the last one stands for no class."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, width)

    def forward(self, class_labels: Tensor) -> Tensor:
        return self.embedding_table(class_labels)


class FinalLayer(nn.Module):
    """Modulated norm and projection to patches."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(conditioning)[:, None, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class ClassLatte(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Factorised space-time transformer: even blocks attend within a frame, odd ones along the frames.

    The released code repeats the conditioning for every frame and patch before each modulation; here it is broadcast
    afterwards, which gives the same values for a fraction of the work.

    Args:
        sample_size: side of the square latents.
        num_classes: classes without the null class; None: unconditional, no `y_embedder`.
        learn_sigma: whether the output has a second set of channels for the variance.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_frames: int = 16,
        num_classes: int | None = None,
        learn_sigma: bool = True,
    ) -> None:
        super().__init__()
        self.out_channels = in_channels * (2 if learn_sigma else 1)
        self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        if num_classes is not None:
            self.y_embedder = LabelEmbedder(num_classes, hidden_size)
        side = sample_size // patch_size
        spatial = get_2d_sincos_pos_embed(hidden_size, side, base_size=side, output_type="pt")
        temporal = get_1d_sincos_pos_embed_from_grid(hidden_size, torch.arange(num_frames), output_type="pt")
        self.pos_embed = nn.Parameter(spatial.float()[None], requires_grad=False)
        self.temp_embed = nn.Parameter(temporal.float()[None], requires_grad=False)
        self.blocks = nn.ModuleList([Block(hidden_size, num_heads, mlp_ratio) for _ in range(depth)])
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * self.out_channels)

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> ClassLatteOutput | tuple[Tensor]:
        """Predict from noisy latents.

        Args:
            sample: (B, T, in_channels, H, W).
            timestep: (B,).
            class_labels: long (B,), `num_classes` for no class; None for an unconditional model.
        """
        conditioning = self.conditioning(timestep, class_labels)
        x = self.x_embedder(sample.flatten(0, 1)) + self.pos_embed
        x = x.unflatten(0, sample.shape[:2])  # (B, T, patches, C)
        for i, block in enumerate(self.blocks):
            if i % 2 == 0:
                x = block(x, conditioning)
                continue
            x = x.transpose(1, 2)
            if i == 1:
                x = x + self.temp_embed
            x = block(x.contiguous(), conditioning).transpose(1, 2).contiguous()
        output = self._unpatchify(self.final_layer(x, conditioning), sample.shape[-1] // self.config.patch_size)
        return ClassLatteOutput(sample=output) if return_dict else (output,)

    def conditioning(self, timestep: Tensor, class_labels: Tensor | None) -> Tensor:
        """(B, C): the timestep's embedding plus the class's; every modulation reads its SiLU."""
        embedded = self.t_embedder(timestep)
        return embedded if class_labels is None else embedded + self.y_embedder(class_labels)

    def _unpatchify(self, x: Tensor, side: int) -> Tensor:
        """(B, T, side², patch²·C) → (B, T, C, H, W)."""
        patch = self.config.patch_size
        x = x.unflatten(2, (side, side)).unflatten(-1, (patch, patch, self.out_channels))
        return torch.einsum("bthwpqc->btchpwq", x).flatten(5).flatten(3, 4)

    def initialise_(self) -> None:
        """The released initialisation: Xavier projections, and modulations and output at zero."""
        network: Any = self  # its parts are typed as tensors or modules
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        for layer in (network.t_embedder.mlp[0], network.t_embedder.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        if self.config.num_classes is not None:
            nn.init.normal_(network.y_embedder.embedding_table.weight, std=0.02)
        zeroed = [block.adaLN_modulation[1] for block in network.blocks]
        for layer in (*zeroed, network.final_layer.adaLN_modulation[1], network.final_layer.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
