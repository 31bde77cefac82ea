"""Arms of a made-up run, and changes to their numbers."""

from dataclasses import fields, replace

import torch

from experiments.record import arm_from_record, arm_record
from experiments.result import ArmMetrics
from experiments.scores import Scores


def changed(arm, **entries):
    """The arm with other entries of its record, which holds no scores."""
    other = arm_from_record(arm_record(arm) | entries)
    names = [field.name for field in fields(ArmMetrics) if field.name != "scores"]
    return replace(arm, **{name: getattr(other, name) for name in names})


def scored(arm, variant, bits, n_videos, moved=None):
    """The arm under another name, with made-up scores: of CLIPSIM, and of displacements of about `moved`."""
    generator = torch.Generator().manual_seed(sum(map(ord, variant + bits)))
    common = torch.rand(n_videos, generator=torch.Generator().manual_seed(0))
    scores = {"clipsim": 0.2 + 0.1 * common + 0.01 * torch.rand(n_videos, generator=generator)}
    if moved is not None:
        scores["displacement_fp"] = moved * (1 + common) + 0.2 * moved * torch.rand(n_videos, generator=generator)
    other = changed(arm, variant=variant, quantizer=variant, bits=bits, n_videos=n_videos)
    return replace(other, scores=Scores(scores))
