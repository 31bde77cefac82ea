"""Sampling from a class-conditional or unconditional Latte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from qvd.models.latte_network import ClassLatte
from qvd.models.schedulers import takes_generator


@dataclass
class ClassLatteLatents(BaseOutput):  # type: ignore[misc]
    """`latents` (B, in_channels, T, H, W)."""

    latents: Tensor


class ClassLattePipeline(DiffusionPipeline):  # type: ignore[misc]
    """The released sampling loop (github.com/Vchitect/Latte, sample/sample.py) with diffusers' schedulers.

    With `DDPMScheduler(variance_type="learned_range")` the learned sigma is used; other schedulers ignore it.
    """

    def __init__(self, vae: AutoencoderKL, transformer: ClassLatte, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(vae=vae, transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: list[int] | None,
        generator: list[torch.Generator],
        num_inference_steps: int = 250,
        guidance_scale: float = 7.0,
    ) -> ClassLatteLatents:
        """Draw the latents of one video per generator.

        Args:
            class_labels: one class per video; None for an unconditional model.
            guidance_scale: classifier-free guidance, on the prediction's channels and not on the variance's; above 1
                each step calls the denoiser with the null class and the real one, in this order.

        Returns:
            `latents` (B, in_channels, T, H, W), not yet divided by the autoencoder's scaling factor.
        """
        config, device, dtype = self.transformer.config, self._execution_device, self.transformer.dtype
        count, channels = len(generator), config.in_channels
        shape = (count, channels, config.num_frames, config.sample_size, config.sample_size)
        latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        guided = class_labels is not None and guidance_scale > 1
        labels = None if class_labels is None else torch.tensor(class_labels, device=device)
        if labels is not None and guided:
            labels = torch.cat([torch.full_like(labels, config.num_classes), labels])
        ddpm = isinstance(self.scheduler, DDPMScheduler)
        learned_sigma = ddpm and self.scheduler.config.variance_type == "learned_range"
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = latents * self.scheduler.init_noise_sigma
        for timestep in self.progress_bar(self.scheduler.timesteps):
            inputs = self.scheduler.scale_model_input(torch.cat([latents, latents]) if guided else latents, timestep)
            batch = timestep.to(device).expand(len(inputs))
            output = self.transformer(inputs.transpose(1, 2), batch, labels).sample.transpose(1, 2)
            if guided:
                output = guide(output, channels, guidance_scale)
            if not learned_sigma:
                output = output[:, :channels]
            latents = self._step(output, timestep, latents, generator)
        return ClassLatteLatents(latents=latents)

    def _step(self, output: Tensor, timestep: Tensor, latents: Tensor, generator: list[torch.Generator]) -> Tensor:
        noise = {"generator": generator} if takes_generator(self.scheduler) else {}
        return self.scheduler.step(output, timestep, latents, **noise, return_dict=False)[0]


def guide(output: Tensor, channels: int, guidance_scale: float) -> Tensor:
    """Classifier-free guidance of the first `channels` channels; the others are the conditional half's.

    Args:
        output: (2B, channels or more, …), the unconditional half first.

    Returns:
        (B, channels or more, …)
    """
    unconditional, conditional = (half[:, :channels] for half in output.chunk(2))
    guided = unconditional + guidance_scale * (conditional - unconditional)
    return torch.cat([guided, output.chunk(2)[1][:, channels:]], dim=1)
