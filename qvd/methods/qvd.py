"""QVD (arXiv 2407.11585): HTDQ for temporal features, SCRI for the other activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qvd.methods.base import CalibrationPlan, PTQMethod
from qvd.methods.htdq import HtdqForm
from qvd.methods.scri import ScriMode
from qvd.quant.rules import RangeMethod, SiteBits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from qvd.bits import Bits
    from qvd.methods.base import QuantizationContext
    from qvd.models.base import BoundaryLayers
    from qvd.quant.observers import Ranges
    from qvd.quant.quantization import LayerQuantization, Quantization

BOUNDARY_WEIGHT_BITS = 8


@dataclass(frozen=True)
class QVD(PTQMethod):
    """QVD as far as public sources give it; every switch of its ablation is a field.

    Attributes:
        htdq: the grid of temporal features.
        scri: shift and scale of the other activations.
        tau_candidates: how many τ the scale search tries per shift.
        capture_rows: receptive fields kept per layer to judge SCRI on.
        capture_entries: calibration entries that they are drawn from.
    """

    name: str = "qvd"
    calibration: CalibrationPlan = field(default_factory=lambda: CalibrationPlan(num_samples=10, num_steps=10))
    weight_range: RangeMethod = RangeMethod.lp
    activation_range: RangeMethod = RangeMethod.lp
    bias_correction: bool = True
    htdq: HtdqForm = HtdqForm.auto
    scri: ScriMode = ScriMode.guarded
    tau_candidates: int = 10
    capture_rows: int = 512
    capture_entries: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_candidates", "capture_rows", "capture_entries"):
            if getattr(self, name) < 1:
                raise ValueError(f"quantizer.{name}={getattr(self, name)}: must be at least 1")

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """First and last layers keep 8-bit weights."""
        weight = bits.weight and max(bits.weight, BOUNDARY_WEIGHT_BITS)
        named = {"first layer": boundary.first, "last layer": boundary.last}
        return {name: SiteBits(weight, bits.activation, rule) for rule, names in named.items() for name in names}

    def quantize(
        self, denoiser: nn.Module, ranges: Ranges, calibration: Mapping[str, Tensor], context: QuantizationContext
    ) -> Quantization:
        plan = self.site_bits(denoiser, context)
        temporal, temporal_summary = self._temporal_layers(denoiser, ranges, plan, context)
        others, scri_summary = self._integrated_layers(denoiser, ranges, calibration, plan, context)
        return self.assemble(denoiser, ranges, plan, temporal | others, temporal_summary | scri_summary)

    def _temporal_layers(
        self, denoiser: nn.Module, ranges: Ranges, plan: Mapping[str, SiteBits], context: QuantizationContext
    ) -> tuple[dict[str, LayerQuantization], dict[str, float]]:
        """HTDQ: layers that read a temporal feature."""
        from qvd.methods.htdq import select_grids
        from qvd.quant.layerwise import quantize_layer
        from qvd.quant.sites import weighted_layers

        if self.htdq is HtdqForm.off:
            return {}, {}
        features = context.adapter.temporal_features(denoiser, context.timesteps)
        n_bits = {name: plan[name].activation for name in features}
        modules = weighted_layers(denoiser)
        layers: dict[str, LayerQuantization] = {}
        for name, (grid, notes) in select_grids(features, n_bits, self.htdq).items():
            layers[name] = quantize_layer(
                name, modules[name], plan[name], ranges[name], self.settings, grid=grid, notes=notes
            )
        return layers, _means(layers, ("td1", "td2", "td3", "td1_uniform", "td2_uniform", "td3_uniform"))

    def _integrated_layers(
        self,
        denoiser: nn.Module,
        ranges: Ranges,
        calibration: Mapping[str, Tensor],
        plan: Mapping[str, SiteBits],
        context: QuantizationContext,
    ) -> tuple[dict[str, LayerQuantization], dict[str, float]]:
        """SCRI: every other layer with a quantized input, except the first and the last."""
        from qvd.methods.scri import ScriSite, integrate
        from qvd.quant.absorb import absorbing_norms
        from qvd.quant.capture import capture_rows
        from qvd.quant.sites import weighted_layers

        boundary, layers = context.adapter.boundary_layers(denoiser), weighted_layers(denoiser)
        excluded = {*boundary.first, *boundary.last, *context.adapter.temporal_feature_sites(denoiser)}
        names = [n for n, layer in layers.items() if _takes_transform(layer, plan[n]) and n not in excluded]
        if self.scri is ScriMode.off or not names:
            return {}, {}
        rows = capture_rows(denoiser, names, calibration, self.capture_rows, self.capture_entries)
        example = {key: value[:1] for key, value in calibration.items()}
        result: dict[str, LayerQuantization] = {}
        for norm, members in context.progress(_groups(names, absorbing_norms(denoiser, example)), "SCRI"):
            sites = [ScriSite(n, layers[n], plan[n], ranges[n], rows.pop(n), self.settings) for n in members]
            result |= integrate(sites, norm, self.scri, self.tau_candidates)
        return result, _means(result, ("coverage_before", "coverage", "scri_error_identity", "scri_error"))


def _takes_transform(layer: nn.Module, bits: SiteBits) -> bool:
    return bits.activation is not None and getattr(layer, "groups", 1) == 1


def _groups(names: list[str], absorbing: Mapping[str, list[str]]) -> list[tuple[str | None, list[str]]]:
    """Layers that share a transform: the readers of one norm if all of them take part, else each layer for itself."""
    norm_of = {n: norm for norm, readers in absorbing.items() if set(readers) <= set(names) for n in readers}
    groups: dict[str, tuple[str | None, list[str]]] = {}
    for name in names:
        norm = norm_of.get(name)
        groups.setdefault(norm or name, (norm, []))[1].append(name)
    return list(groups.values())


def _means(layers: Mapping[str, LayerQuantization], keys: tuple[str, ...]) -> dict[str, float]:
    """The mean over layers of each of their notes."""
    if not layers:
        return {}
    return {key: sum(float(layer.notes[key]) for layer in layers.values()) / len(layers) for key in keys}
