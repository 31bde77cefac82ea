"""Inception Score (Salimans et al. 2016) of class logits, such as I3D's of Kinetics-400, by torchmetrics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torchmetrics.image.inception import InceptionScore as Metric

from metrics.frechet import Features, as_matrix


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over splits; from 1 to the number of classes, higher is better."""

    mean: float
    std: float


def inception_score(logits: Features, splits: int = 10, seed: int = 0) -> InceptionScore:
    """Inception Score of videos.

    Args:
        logits: (N, classes), before the softmax.
        splits: disjoint random parts that are scored apart.
        seed: of the parts.

    Raises:
        ValueError: fewer videos than splits.
    """
    x = as_matrix(logits)
    if len(x) < splits:
        raise ValueError(f"{len(x)} videos are too few for {splits} splits")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it warns that it keeps all features, which is what we hand it
        torch.manual_seed(seed)
        metric = Metric(feature=nn.Identity(), splits=splits)
        metric.update(x)
        mean, std = metric.compute()
    return InceptionScore(float(mean), float(std))
