"""One training loop for every embedded model: seeded, resumable, with an EMA of the weights."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from diffusers.optimization import get_cosine_schedule_with_warmup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)
LossFunction = Callable[[torch.Generator, int], torch.Tensor]
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    Attributes:
        steps: optimiser steps of the whole schedule.
        learning_rate: peak of the cosine schedule.
        warmup: linear warm-up steps.
        ema_decay: decay of the weight average that is returned.
        checkpoint_every: steps between checkpoints; a killed run loses at most this many.
        seed: seeds the per-step generators, so a resumed run sees the same batches.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    ema_decay: float = 0.995
    checkpoint_every: int = 200
    seed: int = 0


def fit(model: M, loss_function: LossFunction, config: TrainingConfig, checkpoint: Path) -> M:
    """Train `model` in place and return its EMA copy.

    Args:
        model: every trained parameter is inside it.
        loss_function: maps (generator of this step, step) to a scalar loss.
        config: the schedule.
        checkpoint: file that holds the whole training state; training goes on from it when it exists.
    """
    parallel = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if parallel else (0, 1)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup, config.steps)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    stateful = {"model": model, "ema": ema, "optimizer": optimizer, "schedule": schedule}
    start, earlier = _restore(checkpoint, stateful)
    with Progress(*_COLUMNS) as progress:
        task = progress.add_task(checkpoint.stem, total=config.steps, completed=start)
        running, since = 0.0, time.monotonic()
        for step in range(start, config.steps):
            generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) * world + rank)
            loss = loss_function(generator, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if parallel:
                _average_gradients(model, world)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            ema.update_parameters(model)
            running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
            progress.advance(task)
            if is_main_process() and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
                seconds = time.monotonic() - since
                _save(checkpoint, stateful, step + 1, earlier + seconds)
                rate = seconds / (step + 1 - start)
                progress.console.print(f"{checkpoint.stem} step {step + 1}: loss {running:.4f}, {rate:.2f} s/step")
    return cast(M, ema.module)


def _average_gradients(model: nn.Module, world: int) -> None:
    # One message for all of them: hundreds of small ones would cost as much as the step itself.
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.div_(world).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def join_processes() -> None:
    """Under `torchrun` each process draws its own batches and gradients are averaged; elsewhere nothing happens."""
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")


def is_main_process() -> bool:
    """Whether this process is the one that writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def training_time(*checkpoints: Path) -> str:
    """Wall-clock time of the steps behind finished trainings, for a card; those of a resumed one are added up."""
    seconds = sum(torch.load(path, weights_only=True).get("seconds", math.nan) for path in checkpoints)
    return "not recorded" if math.isnan(seconds) else f"{timedelta(seconds=round(seconds))} (h:mm:ss)"


def _save(path: Path, stateful: dict, step: int, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    states = {name: part.state_dict() for name, part in stateful.items()}
    torch.save({"step": step, "seconds": seconds, **states}, partial)
    os.replace(partial, path)


def _restore(path: Path, stateful: dict) -> tuple[int, float]:
    """Steps done and the seconds they took."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    for name, part in stateful.items():
        part.load_state_dict(state[name])
    return state["step"], state.get("seconds", math.nan)  # an old checkpoint does not say
