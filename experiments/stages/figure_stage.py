"""The stage that draws a run's figures: those of every run, curves over bits, and a look inside a QVD arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from experiments.comparison import Setting, comparisons_document
from experiments.config.run_config import Arm
from experiments.record import measured_record
from experiments.report import qvd_figures
from experiments.report.comparison_figure import comparison_figures
from experiments.report.curve_figures import bits_figure
from experiments.report.figures import build_figures, to_png
from experiments.result import ArmResult, of_one_size
from experiments.stages.stages import Stages, code
from qvd.calibration.observers import Ranges
from qvd.methods.qvd import QVD
from qvd.options.htdq import HtdqForm
from qvd.options.scri import ScriMode
from qvd.spec.quantization import Quantization
from qvd.store.artifacts import Artifact, Result
from qvd.store.digest import fingerprint

RANGE_LAYERS = 4


@dataclass(frozen=True)
class StudiedArm:
    """An arm whose inside is drawn: its method, its quantization and the ranges it was made from."""

    arm: Arm
    quantized: Artifact
    ranges: Artifact


def choose_studied(candidates: Sequence[StudiedArm]) -> StudiedArm | None:
    """The QVD arm with both of its parts at work and the fewest activation bits; None where there is none."""
    complete = [
        c
        for c in candidates
        if isinstance(c.arm.method, QVD)
        and c.arm.method.htdq is not HtdqForm.off
        and c.arm.method.scri is not ScriMode.off
        and not c.arm.method.only
        and c.arm.bits.activation is not None
    ]
    return min(complete, key=lambda c: c.arm.bits.activation or 0, default=None)


def run_figures(
    stages: Stages, results: Sequence[ArmResult], studied: StudiedArm | None, settings: Sequence[Setting] = ()
) -> dict[str, bytes]:
    """Every figure of a run as PNG, by name; drawing takes seconds, so they are kept like any other result."""

    def compute() -> Result:
        figures = build_figures(list(results)) | _curves(results) | comparison_figures(settings)
        if studied is not None:
            figures |= _inside(stages, studied)
        pngs = {name: bytearray(to_png(figure)) for name, figure in figures.items()}
        return {name: torch.frombuffer(png, dtype=torch.uint8) for name, png in pngs.items()}, {}

    # Metrics and map follow from the calibration set, and so stand for the histograms too.
    arms = [[arm.name, measured_record(arm), arm.quantization_map] for arm in results]
    inputs = {
        "arms": fingerprint(arms),
        "comparisons": fingerprint(comparisons_document(settings)),
        "studied": studied and [studied.quantized.key, studied.ranges.key],
    }
    tensors = stages.store.fetch("figures", inputs, compute, code.FIGURES).tensors
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def _curves(results: Sequence[ArmResult]) -> dict[str, Figure]:
    """Metrics against bits, where several variants were run at several bits, of the run's own N: FVD depends on it."""
    quantized = [arm for arm in of_one_size(results) if arm.bits != "fp"]
    if min(len({arm.variant for arm in quantized}), len({arm.bits for arm in quantized})) < 2:
        return {}
    return {"bits": bits_figure(quantized)}


def _inside(stages: Stages, studied: StudiedArm) -> dict[str, Figure]:
    """HTDQ's levels and distances at the first temporal site with a grid, SCRI's ranges and coverage."""
    quantization = Quantization.from_tensors(studied.quantized.tensors, studied.quantized.metadata)
    figures = _temporal(stages, studied.arm, quantization)
    layers = qvd_figures.transformed_ranges(Ranges.from_tensors(studied.ranges.tensors), quantization, RANGE_LAYERS)
    if layers:
        figures["channel ranges"] = qvd_figures.channel_range_figure(layers)
        figures["coverage"] = qvd_figures.coverage_figure(quantization.map)
    return figures


def _temporal(stages: Stages, arm: Arm, quantization: Quantization) -> dict[str, Figure]:
    """None where the user's rules leave every temporal feature in floating point."""
    config = stages.config
    timesteps = config.model.timesteps(stages.pipeline, config.num_inference_steps)
    of_sites = config.model.temporal_features(stages.fp_denoiser, timesteps)
    grids = {site: grid for site in of_sites if (grid := quantization.layers[site].grid) is not None}
    if not grids:
        return {}
    site, grid = next(iter(grids.items()))
    features = of_sites[site]
    of_timesteps = features[: len(timesteps)]  # where features depend on the class too, the first class's
    family = qvd_figures.family_grids(features, grid.n_bits)
    return {
        "temporal levels": qvd_figures.temporal_levels_figure(
            features, family, f"Temporal features and the levels of {grid.n_bits}-bit quantizers ({arm.name})"
        ),
        "temporal distances": qvd_figures.distance_figure(
            of_timesteps,
            {"uniform": family["uniform"], f"selected: {grid.form}": grid},
            [round(t) for t in timesteps.tolist()],
        ),
    }
