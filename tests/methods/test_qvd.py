"""QVD on a whole UNet3D: exact folds, excluded layers, switches, and the gain over naive."""

import pytest
import torch

from baselines.naive import Naive
from qvd.backends.convert import convert
from qvd.graph.anatomy import BoundaryLayers
from qvd.methods.fp import FloatingPoint
from qvd.methods.qvd import QVD
from qvd.options.bits import Bits
from qvd.options.calibration import CalibrationPlan
from qvd.options.htdq import HtdqForm
from qvd.options.rules import LayerRule
from qvd.options.scri import ScriMode
from qvd.spec.quantization import LayerQuantization, Quantization
from qvd.spec.rules import SiteBits
from tests.tiny_unet import context_of

SMALL = {"tau_candidates": 2, "capture_rows": 64, "capture_entries": 2}


def quantize(method, unet, ranges, calibration, adapter, bits="w8a8"):
    context = context_of(adapter, unet, bits, torch.arange(0, 1000, 100))
    return method.quantize(unet, ranges, calibration, context)


@pytest.fixture(scope="module")
def paper(unet, ranges, calibration, adapter):
    return quantize(QVD(scri=ScriMode.paper, **SMALL), unet, ranges, calibration, adapter)


def error(unet, quantization, calibration):
    entry = calibration.take([0, 1])
    reference = unet(**entry).sample
    return ((convert(unet, quantization)(**entry).sample - reference).norm() / reference.norm()).item()


@torch.no_grad()
def test_fold_is_exact_in_floating_point(unet, calibration, paper):
    """The transforms of `paper`, with every integer weight and grid taken out."""
    layers = {}
    for name, layer in paper.layers.items():
        bias = border = None
        if layer.shift is not None:
            weight = unet.get_submodule(name).weight
            taps = (weight.flatten(2) if weight.dim() > 2 else weight[..., None]) * layer.shift.view(1, -1, 1)
            if layer.border is None:
                own = unet.get_submodule(name).bias
                bias = taps.sum((1, 2)) + (0 if own is None else own)
            else:
                border = taps.sum(1).view(layer.border.shape)
        layers[name] = LayerQuantization(
            name, layer.kind, "", None, None, bias, border, layer.shift, layer.scale, layer.absorbed_by
        )
    assert sum(layer.absorbed_by is not None for layer in layers.values()) > 20
    assert error(unet, Quantization(layers, {}), calibration) < 1e-5


def test_excluded_layers_keep_their_inputs(paper, adapter, unet):
    anatomy = adapter.anatomy(unet)
    for name in (*anatomy.boundary.first, *anatomy.boundary.last, *anatomy.temporal_sites):
        assert paper.layers[name].shift is None and paper.layers[name].scale is None
    shifted = [name for name, layer in paper.layers.items() if layer.shift is not None]
    assert len(shifted) == len(paper.layers) - 2 - len(anatomy.temporal_sites)


def test_summary_and_notes(paper):
    assert 0 < paper.summary["coverage_before"] < paper.summary["coverage"] <= 1
    assert paper.summary["td1"] >= paper.summary["td1_uniform"]
    notes = paper.layers["mid_block.resnets.0.time_emb_proj"].notes
    assert {"td1", "td2", "td3", "skewness", "distinct_codes"} <= set(notes)


def test_with_few_prompts_only_what_reads_the_timestep_alone_is_transformed(unet, ranges, calibration, adapter):
    """Four entries are four samples here: as many as are asked for, or one too few."""
    enough, few = (quantize(QVD(min_samples=least, **SMALL), unet, ranges, calibration, adapter) for least in (4, 5))
    assert any(layer.shift is not None or layer.scale is not None for layer in enough.layers.values())
    judged = {name for name, layer in few.layers.items() if "scri_error" in layer.notes}
    assert judged == set(adapter.anatomy(unet).boundary.embedders)
    others = [layer for name, layer in few.layers.items() if name not in judged]
    assert all(layer.shift is None and layer.scale is None for layer in others)
    assert (few.summary["scri_samples"], few.summary["scri_min_samples"]) == (4, 5)
    assert "scri_samples" not in enough.summary


def test_boundary_weights_keep_eight_bits(unet, ranges, calibration, adapter):
    plain = QVD(scri=ScriMode.off, htdq=HtdqForm.off)
    quantization = quantize(plain, unet, ranges, calibration, adapter, "w4a8")
    bits = {name: layer.weight.n_bits for name, layer in quantization.layers.items()}
    assert bits["conv_in"] == bits["conv_out"] == 8
    assert set(bits.values()) == {4, 8}
    assert quantization.summary == {}


@pytest.mark.parametrize(("bits", "expected"), [("w4a6", (8, 8)), ("w8a16", (8, None)), ("w2a12", (8, 12))])
def test_first_and_last_layer_never_lose_bits(bits, expected):
    boundary = BoundaryLayers(first=("conv_in",), last=("conv_out",), embedders=("embedder",))
    exceptions = QVD().exceptions(boundary, Bits.parse(bits))
    assert exceptions == {"conv_in": SiteBits(*expected, "first layer"), "conv_out": SiteBits(*expected, "last layer")}


@torch.no_grad()
def test_qvd_beats_naive(unet, ranges, calibration, adapter, paper):
    naive = quantize(Naive(), unet, ranges, calibration, adapter)
    assert error(unet, paper, calibration) < error(unet, naive, calibration)


@torch.no_grad()
def test_saved_transforms_run_bit_equal(unet, calibration, paper):
    entry = calibration.take([0])
    restored = Quantization.from_tensors(paper.to_tensors(), paper.metadata)
    assert torch.equal(convert(unet, restored)(**entry).sample, convert(unet, paper)(**entry).sample)


def test_rules_reach_layers_and_operands(unet, ranges, calibration, adapter):
    rules = [LayerRule("conv_in", None, None), LayerRule("*.probabilities", None, 16)]
    method = QVD(scri=ScriMode.off, rules=rules)
    quantization = quantize(method, unet, ranges, calibration, adapter)
    assert quantization.layers["conv_in"].is_float
    assert quantization.layers["conv_in"].rule == "rules[0] conv_in"
    assert all(o.grid.n_bits == (16 if n.endswith("probabilities") else 8) for n, o in quantization.operands.items())


@pytest.mark.parametrize("method", [FloatingPoint(), Naive(), QVD()], ids=lambda m: m.name)
@torch.no_grad()
def test_floating_point_bits_change_nothing(method, unet, ranges, calibration, adapter):
    assert error(unet, quantize(method, unet, ranges, calibration, adapter, "fp"), calibration) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("p_norm", 0.0), ("softmax_bits", 1), ("tau_candidates", 0), ("capture_rows", 0), ("min_samples", 1)],
)
def test_settings_are_checked(field, value):
    with pytest.raises(ValueError, match=f"quantizer.{field}={value}"):
        QVD(**{field: value})


def test_calibration_plan_is_checked():
    with pytest.raises(ValueError, match=r"num_steps=0"):
        CalibrationPlan(4, 0)
