"""The small run's parts computed anew, by diffusers' own pipeline and by plain hooks, not through the stages."""

import numpy as np
import torch
from diffusers import TextToVideoSDPipeline

from tests.end_to_end.names import Shapes
from tests.end_to_end.small_run import GUIDANCE, SEED, STEPS

STREAMS = {"calibration": 1, "evaluation": 2}  # as documented: noise depends on (seed, split, index)


def load_pipeline(run):
    pipeline = TextToVideoSDPipeline.from_pretrained(run.config.model.folder(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.requires_grad_(False).eval()
    return pipeline


def generators(split, indices, seed=SEED):
    states = [
        np.random.SeedSequence([seed, STREAMS[split], index]).generate_state(1, np.uint64)[0] for index in indices
    ]
    return [torch.Generator().manual_seed(int(state >> np.uint64(1))) for state in states]


def prompts(split, indices):
    return [Shapes(split=split).attributes(index).caption for index in indices]


@torch.no_grad()
def draw(pipeline, indices, split="evaluation", denoiser=None, seed=SEED):
    """uint8 (B, T, 3, H, W) of a denoiser, by default the pipeline's own."""
    original = pipeline.unet
    pipeline.unet = denoiser or original
    frames = pipeline(
        prompt=prompts(split, indices),
        generator=generators(split, indices, seed),
        num_frames=8,
        height=32,
        width=32,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="np",
    ).frames
    pipeline.unet = original
    return torch.from_numpy(np.asarray(frames) * 255).round().to(torch.uint8).movedim(-1, 2)


def calls(pipeline, indices, split, denoiser=None):
    """[(arguments, prediction)] of a denoiser while videos are drawn."""
    recorded = []
    handle = (denoiser or pipeline.unet).register_forward_hook(
        lambda module, args, kwargs, output: recorded.append(((args, kwargs), output[0])), with_kwargs=True
    )
    draw(pipeline, indices, split, denoiser)
    handle.remove()
    return recorded


@torch.no_grad()
def input_extremes(denoiser, layers, entries):
    """Layer → (smallest, largest) of all that it reads while the denoiser is called with these entries."""
    seen = {name: [] for name in layers}
    handles = [
        denoiser.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen[name].append(args[0].aminmax())
        )
        for name in layers
    ]
    denoiser(**entries)
    for handle in handles:
        handle.remove()
    return {
        name: (min(low for low, _ in found).item(), max(high for _, high in found).item())
        for name, found in seen.items()
    }
