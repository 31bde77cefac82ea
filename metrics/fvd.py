"""Fréchet Video Distance (Unterthiner et al. 2018) with any extractor, reported with its uncertainty and its bias."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metrics.extractors.base import VideoExtractor
from metrics.frechet import Features, frechet_distance, frechet_infinity, near_copies, same_samples
from metrics.intervals import bootstrap_interval, paired_bootstrap_interval

MINIMUM_VIDEOS = 8
"""Fewer say nothing, whatever the extractor."""

RECOMMENDED_VIDEOS = 2048
SHARED = 0.1  # of the videos: fewer near copies on the other side happen


class FVDReport(TypedDict):
    """One FVD cell; distances in squared feature units."""

    fvd: float
    fvd_inf: float
    fvd_inf_r_squared: float | None
    fvd_ci: list[float]
    n_videos: int
    n_reference: int
    warning: str | None


def fvd_report(
    generated_features: Features,
    reference_features: Features,
    level: float = 0.95,
    replicates: int = 500,
    seed: int = 0,
    paired: bool = False,
) -> FVDReport:
    """FVD with its extrapolation to infinitely many videos and its bootstrap interval.

    `fvd_ci` resamples the generated videos against a fixed reference, see `metrics.intervals.bootstrap_interval`, or
    with `paired` the pairs, see `paired_bootstrap_interval`.

    Args:
        generated_features: (N, D).
        reference_features: (M, D).
        level: coverage of the interval.
        replicates: bootstrap resamplings.
        seed: of the bootstrap and of the splits behind FVD∞.
        paired: generated video i was prompted with the caption of reference clip i, as in text-to-video benchmarks.

    Raises:
        ValueError: fewer than 8 videos on a side, or features that do not match.
    """
    n_videos, n_reference = len(generated_features), len(reference_features)
    check_enough_videos(n_videos, n_reference)
    fit = frechet_infinity(generated_features, reference_features, seed=seed, paired=paired)
    pair = generated_features, reference_features
    warnings = (*bias_warning(*pair), *infinity_warning(*pair))
    return FVDReport(
        fvd=frechet_distance(generated_features, reference_features),
        fvd_inf=fit.value,
        fvd_inf_r_squared=fit.r_squared,
        fvd_ci=list(fvd_interval(generated_features, reference_features, level, replicates, seed, paired)),
        n_videos=n_videos,
        n_reference=n_reference,
        warning="; ".join(warnings) or None,
    )


def fvd_interval(
    generated_features: Features,
    reference_features: Features,
    level: float = 0.95,
    replicates: int = 500,
    seed: int = 0,
    paired: bool = False,
) -> tuple[float, float]:
    """Bootstrap interval of FVD at this N, see `fvd_report`."""
    bootstrap = paired_bootstrap_interval if paired else bootstrap_interval
    return bootstrap(generated_features, reference_features, level, replicates, seed)


def check_enough_videos(n_videos: int, n_reference: int) -> None:
    """ValueError for fewer than 8 videos on a side."""
    if min(n_videos, n_reference) < MINIMUM_VIDEOS:
        raise ValueError(
            f"FVD of {n_videos} generated against {n_reference} reference videos: "
            f"need at least {MINIMUM_VIDEOS} of each, {RECOMMENDED_VIDEOS} to compare with published values"
        )


def bias_warning(features: Features, reference: Features) -> tuple[str, ...]:
    """What must be known of the FVD of these sets; empty for enough videos that are not the reference's."""
    fewest = min(len(features), len(reference))
    if same := same_warning(features, reference):
        return same
    few = (f"fvd is biased upwards: {fewest} videos, fewer than {RECOMMENDED_VIDEOS}",)
    return (*copies_warning(features, reference), *(few if fewest < RECOMMENDED_VIDEOS else ()))


def infinity_warning(features: Features, reference: Features) -> tuple[str, ...]:
    """What must be known of FVD∞ of these sets; empty for enough videos, and for the same ones on both sides."""
    enough = 2 * features.shape[1]
    if same_samples(features, reference) or min(len(features), len(reference)) >= enough:
        return ()
    if copies_warning(features, reference):
        return (f"fvd_inf is too low: fewer than {enough} videos, and the sides share some",)
    return (f"fvd_inf is too high: fewer than {enough} videos",)


def same_warning(features: Features, reference: Features) -> tuple[str, ...]:
    """That there is nothing to compare, where there is not."""
    same = same_samples(features, reference)
    return (f"both sides are the same {len(features)} videos",) if same else ()


def copies_warning(features: Features, reference: Features) -> tuple[str, ...]:
    """That what takes the sides for independent cannot, where a tenth of the videos or more are on both."""
    count = near_copies(features, reference)
    if count < SHARED * len(features):
        return ()
    taken = "fvd_inf, kvd and intervals take the sides for independent, and are too low"
    return (f"{count} of {len(features)} videos are on both sides, or nearly: {taken}",)


class FrechetVideoDistance(Metric):
    """FVD as a torchmetrics metric.

    It keeps features rather than moments (2,048 × 400 float32 is 3 MB), so that `report` can give the interval and the
    extrapolation, and so that ranks synchronise by concatenation.

    Args:
        extractor: frozen network from uint8 (B, T, C, H, W) to (B, D).
        reset_real_features: whether `reset` forgets the reference too.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    real_features: list[Tensor]
    generated_features: list[Tensor]

    def __init__(self, extractor: VideoExtractor, reset_real_features: bool = True) -> None:
        super().__init__()
        self.extractor = extractor
        self.reset_real_features = reset_real_features
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("generated_features", [], dist_reduce_fx="cat")

    def update(self, videos: Tensor, real: bool) -> None:
        """Add uint8 videos (B, T, C, H, W) to the reference (`real=True`) or to the generated set."""
        (self.real_features if real else self.generated_features).append(self.extractor(videos))

    def compute(self) -> Tensor:
        """FVD, a float64 scalar.

        Raises:
            ValueError: fewer than 2 videos on a side.
        """
        generated, real = self._features()
        return torch.tensor(frechet_distance(generated, real), dtype=torch.float64)

    def report(self, level: float = 0.95, replicates: int = 500, seed: int = 0) -> FVDReport:
        """`fvd_report` of the videos seen by this process."""
        return fvd_report(*self._features(), level=level, replicates=replicates, seed=seed)

    def reset(self) -> None:
        """Forget the generated videos, and the reference unless it is to be kept."""
        kept = list(self.real_features)
        super().reset()
        if not self.reset_real_features:
            self.real_features = kept

    def _features(self) -> tuple[Tensor, Tensor]:
        empty = torch.empty(0, self.extractor.num_features)
        generated, real = (dim_zero_cat(f) if len(f) else empty for f in (self.generated_features, self.real_features))
        return generated, real
