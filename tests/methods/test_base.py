"""What every method shares: who gets which bits."""

import pytest
import torch

from baselines.naive import Naive
from qvd.graph.sites import weighted_layers
from qvd.methods.base import PTQMethod
from qvd.options.calibration import CalibrationPlan
from qvd.spec.rules import SiteBits
from tests.tiny_unet import context_of


@pytest.mark.parametrize(
    ("options", "bits", "softmax", "others"),
    [
        ({}, "w8a6", 8, 6),
        ({"softmax_bits": 5}, "w4a12", 5, 12),
        ({"softmax_bits": None}, "w4a6", 6, 6),
        ({"softmax_bits": 5}, "fp", None, None),
    ],
)
def test_attention_probabilities_have_bits_of_their_own(options, bits, softmax, others, unet, adapter):
    plan = Naive(**options).site_bits(unet, context_of(adapter, unet, bits, torch.arange(10)))
    given = {
        kind: {b.activation for site, b in plan.items() if site.endswith(f".{kind}")}
        for kind in ("probabilities", "q", "v", "to_q")
    }
    assert given == {"probabilities": {softmax}, "q": {others}, "v": {others}, "to_q": {others}}


def test_a_method_without_exceptions_treats_all_layers_alike(unet, adapter):
    class Plain(PTQMethod):
        def quantize(self, denoiser, ranges, calibration, context):
            raise NotImplementedError

    plan = Plain("plain", CalibrationPlan(1, 1)).site_bits(unet, context_of(adapter, unet, "w4a6", torch.arange(10)))
    assert {plan[name] for name in weighted_layers(unet)} == {SiteBits(4, 6, "default")}
