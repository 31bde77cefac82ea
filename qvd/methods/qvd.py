"""QVD (arXiv 2407.11585): HTDQ for temporal features, SCRI for the other activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from qvd.algorithms.htdq.grids import select_grids
from qvd.algorithms.layerwise import LayerChoice, LayerSettings, quantize_layer
from qvd.algorithms.reconstruction.engine import Task, reconstruct_rounding
from qvd.algorithms.scri.groups import transform_groups
from qvd.algorithms.scri.objective import scri_sites
from qvd.algorithms.scri.search import integrate
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.calibration.rows import capture_rows
from qvd.graph.absorb import absorbing_norms
from qvd.graph.anatomy import BoundaryLayers
from qvd.graph.sites import weighted_layers
from qvd.methods.base import PTQMethod, QuantizationContext
from qvd.options.bits import Bits
from qvd.options.htdq import HtdqForm
from qvd.options.qvd import QVDOptions
from qvd.options.scri import ScriMode
from qvd.options.units import Reconstruction
from qvd.spec.quantization import LayerQuantization, Quantization
from qvd.spec.rules import SiteBits, exceptions_at

BOUNDARY_BITS = 8


class QVD(QVDOptions, PTQMethod):
    """QVD as far as public sources give it; every switch of its ablation is an option."""

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """First and last layers keep 8-bit weights, and 8-bit inputs as is usual (BRECQ, arXiv 2102.05426)."""
        return exceptions_at(bits.at_least(BOUNDARY_BITS), boundary.ends)

    @property
    def settings(self) -> LayerSettings:
        return replace(super().settings, border_correction=self.border_correction)

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        plan = self.site_bits(denoiser, context)
        temporal, temporal_summary = self._temporal_layers(denoiser, ranges, plan, context)
        others, scri_summary = self._integrated_layers(denoiser, ranges, calibration, plan, context)
        quantization = self.assemble(denoiser, ranges, plan, temporal | others, temporal_summary | scri_summary)
        if self.reconstruction is Reconstruction.none or context.bits.weight is None:
            return quantization
        return self._reconstructed(denoiser, quantization, ranges, calibration, context)

    def _reconstructed(
        self,
        denoiser: nn.Module,
        quantization: Quantization,
        ranges: Ranges,
        calibration: CalibrationSet,
        context: QuantizationContext,
    ) -> Quantization:
        """AdaRound of the folded weights on transformed and quantized inputs."""
        units = context.anatomy.blocks[self.reconstruction]
        task = Task(denoiser, calibration, units, context.checkpoint, context.progress)
        return reconstruct_rounding(task, quantization, self.adaround, ranges if self.bias_correction else None)

    def _temporal_layers(
        self, denoiser: nn.Module, ranges: Ranges, plan: Mapping[str, SiteBits], context: QuantizationContext
    ) -> tuple[dict[str, LayerQuantization], dict[str, float]]:
        """HTDQ: layers that read a temporal feature."""
        if self.htdq is HtdqForm.off:
            return {}, {}
        features = context.temporal_features(denoiser, context.timesteps)
        n_bits = {name: plan[name].activation for name in features}
        modules = weighted_layers(denoiser)
        layers: dict[str, LayerQuantization] = {}
        for name, (grid, notes) in select_grids(features, n_bits, self.htdq).items():
            choice = LayerChoice(grid=grid, notes=notes)
            layers[name] = quantize_layer(name, modules[name], plan[name], ranges[name], self.settings, choice)
        return layers, _means(layers, ("td1", "td2", "td3", "td1_uniform", "td2_uniform", "td3_uniform"))

    def _integrated_layers(
        self,
        denoiser: nn.Module,
        ranges: Ranges,
        calibration: CalibrationSet,
        plan: Mapping[str, SiteBits],
        context: QuantizationContext,
    ) -> tuple[dict[str, LayerQuantization], dict[str, float]]:
        """SCRI: every other layer with a quantized input, except the first and the last."""
        anatomy, layers = context.anatomy, weighted_layers(denoiser)
        excluded = {*anatomy.boundary.first, *anatomy.boundary.last, *anatomy.temporal_sites}
        names = [n for n, layer in layers.items() if _takes_transform(layer, plan[n]) and n not in excluded]
        num_samples, summary = len(calibration.by_sample()), dict[str, float]()
        if self.scri is ScriMode.guarded and num_samples < self.min_samples:
            # What reads the timestep alone has been seen whole, by whatever prompts.
            names = [name for name in names if name in anatomy.boundary.embedders]
            summary = {"scri_samples": num_samples, "scri_min_samples": self.min_samples}
        if self.scri is ScriMode.off or not names:
            return {}, summary
        groups = transform_groups(denoiser, names, absorbing_norms(denoiser, calibration.take([0])))
        joint = {name for group in groups if group.heads for name in group.members}
        rows = capture_rows(denoiser, names, calibration, self.capture_rows, self.capture_entries, sequences=joint)
        result: dict[str, LayerQuantization] = {}
        for group in context.progress(groups, "SCRI"):
            sites = scri_sites(group, layers, plan, ranges, rows, self.settings)
            result |= integrate(sites, group.norm, self.scri, self.tau_candidates)
        return result, summary | _means(result, ("coverage_before", "coverage", "scri_error_identity", "scri_error"))


def _takes_transform(layer: nn.Module, bits: SiteBits) -> bool:
    return bits.activation is not None and getattr(layer, "groups", 1) == 1


def _means(layers: Mapping[str, LayerQuantization], keys: tuple[str, ...]) -> dict[str, float]:
    """The mean over layers of each of their notes."""
    if not layers:
        return {}
    return {key: sum(float(layer.notes[key]) for layer in layers.values()) / len(layers) for key in keys}
