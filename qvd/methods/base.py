"""What a post-training quantization method is, and the plain path through it that methods refine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from qvd.algorithms.granularity import Observation, with_granularity
from qvd.algorithms.layerwise import LayerSettings, quantize_layer, quantize_operand
from qvd.algorithms.reconstruction.unit_store import UnitStore
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observers import Ranges
from qvd.graph.anatomy import Anatomy, BoundaryLayers, TemporalFeatures
from qvd.graph.sites import operand_sites, weighted_layers
from qvd.options.bits import Bits
from qvd.options.method import MethodOptions
from qvd.options.progress import Progress, no_progress
from qvd.spec.quantization import LayerQuantization, Quantization
from qvd.spec.rules import SiteBits, apply_rules, restrict


@dataclass(frozen=True)
class QuantizationContext:
    """What a method may know beside the denoiser and its ranges.

    Attributes:
        bits: the run's bit widths.
        anatomy: which modules of the denoiser are special.
        timesteps: (n,) the sampler's whole timestep set.
        temporal_features: what the temporal sites of a denoiser read, whose weights may be rounded by now.
        progress: `progress(items, description)` iterates over items; a bar in experiments, silent here.
        checkpoint: where long work keeps what it has finished, so that a killed run goes on; None: nowhere.
    """

    bits: Bits
    anatomy: Anatomy
    timesteps: Tensor
    temporal_features: TemporalFeatures
    progress: Progress = no_progress
    checkpoint: UnitStore | None = None


class PTQMethod(MethodOptions, ABC):
    """A post-training quantization method: its options, and what it makes of a denoiser."""

    @abstractmethod
    def quantize(
        self,
        denoiser: nn.Module,
        ranges: Ranges,
        calibration: CalibrationSet,
        context: QuantizationContext,
    ) -> Quantization:
        """Map the denoiser and what calibration saw of it to a quantization; the denoiser is unchanged."""

    def run(
        self, denoiser: nn.Module, ranges: Ranges, calibration: CalibrationSet, context: QuantizationContext
    ) -> Quantization:
        """`quantize`, then `activation_granularity` and `range_reduction`: what a run does."""
        quantization = self.quantize(denoiser, ranges, calibration, context)
        observation = Observation(denoiser, calibration, self.settings, self.range_reduction, context.progress)
        return with_granularity(quantization, self.activation_granularity, observation, context.anatomy.num_frames)

    def exceptions(self, boundary: BoundaryLayers, bits: Bits) -> dict[str, SiteBits]:
        """Layers that the method itself treats apart, by name."""
        return {}

    @property
    def settings(self) -> LayerSettings:
        """The part of the settings that concerns single layers."""
        return LayerSettings(
            self.weight_range,
            self.activation_range,
            self.p_norm,
            self.bias_correction,
            self.weight_symmetric,
            self.activation_symmetric,
            self.range_candidates,
        )

    def site_bits(self, denoiser: nn.Module, context: QuantizationContext) -> dict[str, SiteBits]:
        """Bits of every weighted layer and attention operand: run, then method, then the user's `only` and `rules`.

        Raises:
            ValueError: a pattern that matches nothing.
        """
        bits = context.bits
        softmax_bits = bits.activation and (self.softmax_bits or bits.activation)
        plan = {name: SiteBits(bits.weight, bits.activation, "default") for name in weighted_layers(denoiser)}
        for site in operand_sites(denoiser):
            is_softmax = site.endswith(".probabilities")
            plan[site] = SiteBits(None, softmax_bits if is_softmax else bits.activation, "default")
        if not bits.is_float:
            plan |= self.exceptions(context.anatomy.boundary, bits)
        return apply_rules(restrict(plan, self.only) if self.only else plan, self.rules)

    def assemble(
        self,
        denoiser: nn.Module,
        ranges: Ranges,
        plan: Mapping[str, SiteBits],
        layers: Mapping[str, LayerQuantization],
        summary: dict[str, float],
    ) -> Quantization:
        """A `Quantization` from `layers`, with every layer that they leave out and every operand quantized plainly."""
        settings = self.settings
        complete = {
            name: layers.get(name) or quantize_layer(name, layer, plan[name], ranges[name], settings)
            for name, layer in weighted_layers(denoiser).items()
        }
        operands = {s: quantize_operand(s, plan[s], ranges[s], settings) for s in operand_sites(denoiser)}
        return Quantization(complete, operands, summary)
