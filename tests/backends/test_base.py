"""What every backend promises: those of conf/backend, and the one that learns."""

import copy
import math

import pytest
import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor2_0
from omegaconf import OmegaConf
from torch import nn

from experiments.config.groups import CONF
from experiments.config.nodes import build_node
from qvd.backends.base import Backend, ExecutedLayer
from qvd.backends.convert import Placement, convert, placements
from qvd.backends.simulated import SIMULATION
from qvd.backends.trainable import Trainable, TrainedUnit
from qvd.graph.sites import OPERANDS, attention_modules, kind, weighted_layers
from qvd.methods.qvd import QVD
from qvd.numerics.grids import AffineGrid
from qvd.spec.quantization import LayerQuantization, OperandQuantization, Quantization
from tests.backends.layers import LAYERS, skewed, specs_of
from tests.backends.reference import reference_output
from tests.tiny_unet import context_of

CHOSEN = {path.stem: build_node(OmegaConf.load(path), "backend") for path in sorted((CONF / "backend").glob("*.yaml"))}
BACKENDS = CHOSEN | {"trainable": Trainable()}
EVERY_BACKEND = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
EVERY_LAYER = pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)


def accepted(backend, layer, x):
    """(what it says, spec) of each spec that the backend does not refuse; a refusal is a line."""
    for said, spec in specs_of(layer, x).items():
        reason = backend.refuses(layer, spec)
        if reason is None:
            yield said, spec
        else:
            assert reason and reason == reason.strip() and "\n" not in reason, said


def relative_error(output, expected):
    return ((output - expected).norm() / expected.norm()).item()


def test_names_tell_backends_apart():
    assert len({backend.name for backend in BACKENDS.values()}) == len(BACKENDS)
    assert all(isinstance(backend, Backend) and backend.name.isidentifier() for backend in BACKENDS.values())


def test_a_backend_of_conf_goes_by_its_yamls_name():
    assert {name: backend.name for name, backend in CHOSEN.items()} == {name: name for name in CHOSEN}


@pytest.fixture(autouse=True)
def same_inputs():
    """Elsewhere an input may lie so close to a tie that another order of operations rounds it another way."""
    torch.manual_seed(0)


@EVERY_BACKEND
@EVERY_LAYER
@torch.no_grad()
def test_an_executed_layer_computes_what_the_spec_says(backend, layer, shape):
    x = skewed(layer, shape)
    before = x.clone()
    for said, spec in accepted(backend, layer, x):
        module = backend.layer(layer, spec)
        assert relative_error(module(input=x), reference_output(layer, spec, x)) <= 1e-5, said
        assert torch.equal(x, before), f"{said}: the input was written to"


@EVERY_BACKEND
@EVERY_LAYER
def test_what_is_saved_of_an_executed_layer_are_the_specs_tensors(backend, layer, shape):
    x = skewed(layer, shape)
    for said, spec in accepted(backend, layer, x):
        module = backend.layer(layer, spec)
        own = {} if layer.bias is None else {"bias": layer.bias}
        expected, saved = own | spec.tensors, module.state_dict()
        if isinstance(backend, Trainable):  # steps that are being learned
            saved = {name: tensor for name, tensor in saved.items() if not name.startswith("input_quantizer.")}
        assert isinstance(module, ExecutedLayer) and saved.keys() == expected.keys(), said
        assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items()), said
        assert not {tensor.data_ptr() for tensor in saved.values()} & {t.data_ptr() for t in expected.values()}, said


@EVERY_BACKEND
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_half_precision_comes_out_as_it_went_in_and_is_saved_in_full(backend, dtype):
    for layer, shape in LAYERS[:4]:
        layer, x = copy.deepcopy(layer).to(dtype), skewed(layer, shape).to(dtype)
        for said, spec in accepted(backend, layer, x.float()):
            module = backend.layer(layer, spec)
            if not isinstance(backend, Trainable):  # it learns in float32
                output = module(x)
                assert output.dtype == dtype, said
                assert relative_error(output.double(), reference_output(layer, spec, x)) <= 2e-2, said
            saved = module.state_dict()
            assert all(torch.equal(saved[name], tensor) for name, tensor in spec.tensors.items()), said


@EVERY_BACKEND
def test_an_executed_layer_lies_where_the_layer_lay(backend):
    for layer, shape in LAYERS[:4]:
        x = skewed(layer, shape)
        for said, spec in accepted(backend, layer, x):
            module = backend.layer(copy.deepcopy(layer).to("meta"), spec)
            assert {tensor.device.type for tensor in module.state_dict().values()} <= {"meta"}, said
            assert module(x.to("meta")).device.type == "meta", said


OPERAND_GRIDS = {
    "q": AffineGrid(6, 0.05, 30.0),
    "k": AffineGrid(6, 0.06, 31.0),
    "probabilities": AffineGrid(8, 1 / 255, 0.0),
    "v": AffineGrid(6, 0.04, 33.0),
}


def attention_reference(attention, grids, x):
    """Softmax attention in which each operand is rounded to its grid, if it has one."""

    def rounded(operand, tensor):
        return tensor if operand not in grids else grids[operand](tensor)

    q, k, v = (
        rounded(operand, projection(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2))
        for operand, projection in (("q", attention.to_q), ("k", attention.to_k), ("v", attention.to_v))
    )
    probabilities = rounded("probabilities", (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1))
    return attention.to_out[0]((probabilities @ v).transpose(1, 2).flatten(2))


@EVERY_BACKEND
@pytest.mark.parametrize("quantized", [OPERANDS, ("q", "v"), ("probabilities",)], ids=str)
@torch.no_grad()
def test_an_executed_attention_computes_what_the_spec_says(backend, quantized):
    attention, x = Attention(query_dim=16, heads=2, dim_head=8).eval(), torch.randn(2, 9, 16)
    grids = {operand: OPERAND_GRIDS[operand] for operand in quantized}
    specs = {o: OperandQuantization(f"attn.{o}", f"attention.{o}", "test", grids.get(o)) for o in OPERANDS}
    reason = backend.refuses_operands(attention, specs)
    if reason is None:
        expected = attention_reference(attention, grids, x)
        attention.processor = backend.operands(attention, specs)
        # A probability within rounding of a tie may take the neighbouring level.
        assert (attention(x) - expected).abs().max() < 2e-3
    else:
        assert reason and "\n" not in reason
    attention.processor = AttnAddedKVProcessor2_0()
    assert backend.refuses_operands(attention, specs), "its operands cannot be reached"


class LinearAlone(Backend):
    """Refuses everything else, in its own words."""

    name = "linear_alone"

    def refuses(self, layer, spec):
        return None if isinstance(layer, nn.Linear) else f"{kind(layer)}: no kernel"

    def layer(self, layer, spec):
        return MarkedLayer(layer, spec)


class MarkedLayer(ExecutedLayer):
    def __init__(self, layer, spec):
        super().__init__(layer, spec)
        self.inner = [SIMULATION.layer(layer, spec)]  # a list: its buffers are not ours

    def forward(self, input):
        return self.inner[0](input)


@pytest.fixture(scope="module")
def quantization(unet, ranges, calibration, adapter):
    """Norms that absorb, borders, grids of many kinds, 4-bit weights."""
    context = context_of(adapter, unet, "w4a8", torch.tensor([900.0, 500.0, 100.0]))
    return QVD(tau_candidates=1, capture_rows=32).run(unet, ranges, calibration, context)


@torch.no_grad()
def test_what_a_backend_refuses_is_simulated_layer_by_layer_and_says_why(unet, calibration, quantization):
    entry = calibration.take([0])
    model = convert(unet, quantization, LinearAlone())
    layers = {name: layer for name, layer in weighted_layers(unet).items() if not quantization.layers[name].is_float}
    linear = {name for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    assert {n for n, m in model.named_modules() if isinstance(m, MarkedLayer)} == linear
    expected = {name: Placement(name, "simulated", "linear_alone executes no attention") for name in attentions(unet)}
    for name, layer in layers.items():
        refused = Placement(name, "simulated", f"{kind(layer)}: no kernel")
        expected[name] = Placement(name, "linear_alone") if name in linear else refused
    found = placements(model)
    assert {placement.name: placement for placement in found} == expected and len(found) == len(expected)
    assert torch.equal(model(**entry).sample, convert(unet, quantization)(**entry).sample)


def attentions(denoiser):
    return list(attention_modules(denoiser))


def test_the_simulation_executes_everything_by_default(unet, quantization):
    found = placements(convert(unet, quantization))
    assert {(p.backend, p.reason) for p in found} == {("simulated", None)}
    assert placements(convert(unet, Quantization({}, {}))) == ()


def test_what_cannot_even_be_simulated_is_named(unet):
    layer = LayerQuantization("0", "conv2d", "test", shift=torch.ones(2))
    with pytest.raises(ValueError, match=r"^0: padding_mode='circular': only 'zeros' can be quantized$"):
        convert(nn.Sequential(nn.Conv2d(2, 2, 3, padding_mode="circular")), Quantization({"0": layer}, {}))
    model, name = copy.deepcopy(unet), attentions(unet)[0]
    model.get_submodule(name).processor = AttnAddedKVProcessor2_0()
    operand = OperandQuantization(f"{name}.q", "attention.q", "test", AffineGrid(8, 0.1, 100.0))
    with pytest.raises(ValueError, match=rf"^{name}: processor AttnAddedKVProcessor2_0 cannot be quantized"):
        convert(model, Quantization({}, {operand.name: operand}), LinearAlone())


def test_a_layer_that_is_not_there_is_not_passed_over(unet):
    gone = LayerQuantization("mid_block.gone", "linear", "test", shift=torch.ones(2))
    with pytest.raises(KeyError, match=r"mid_block\.gone"):
        convert(unet, Quantization({gone.name: gone}, {}))
    operand = OperandQuantization("mid_block.gone.q", "attention.q", "test", AffineGrid(8, 0.1, 100.0))
    with pytest.raises(KeyError, match=r"mid_block\.gone"):
        convert(unet, Quantization({}, {operand.name: operand}))


@pytest.mark.parametrize("backend", [*CHOSEN.values(), LinearAlone()], ids=[*CHOSEN, "linear_alone"])
def test_a_saved_conversion_holds_the_specs_tensors_and_does_not_pass_for_the_floating_point_model(
    unet, calibration, quantization, backend, tmp_path
):
    model = convert(unet, quantization, backend)
    saved, tensors = model.state_dict(), quantization.to_tensors()
    assert tensors and all(torch.equal(saved[name], tensor) for name, tensor in tensors.items())
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Unknown quantization type, got qvd"):
        UNet3DConditionModel.from_pretrained(tmp_path)
    unet.save_config(tmp_path)  # the weights alone do not pass for it either
    _, info = UNet3DConditionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {f"{name}.weight" for name in quantization.layers}
    assert set(tensors) - set(unet.state_dict()) <= set(info["unexpected_keys"])


def test_the_original_does_not_pass_for_a_quantized_model(unet, quantization):
    convert(unet, quantization)
    assert "quantization_config" not in unet.config
    assert "quantization_config" not in convert(unet, Quantization({}, {})).config


def test_a_unit_of_the_trainable_model_leaves_frozen_layers_to_the_simulation(unet, quantization):
    unit, frozen = "mid_block.resnets.0", "mid_block.resnets.0.time_emb_proj"
    model, originals = convert(unet, quantization), weighted_layers(unet)
    trained = TrainedUnit(model, unit, originals, quantization, Trainable(frozen=frozenset({frozen})))
    inside = {name for name in originals if name.startswith(f"{unit}.")}
    assert set(trained.layers) == inside - {frozen}
    assert type(trained.module.time_emb_proj) is type(model.get_submodule(frozen))
    x, embedding = torch.randn(8, 64, 4, 4), torch.randn(8, 128)
    expected = model.get_submodule(unit)(x, embedding)
    torch.testing.assert_close(trained.module(x, embedding), expected, rtol=1e-3, atol=1e-3)


def test_replaced_norms_keep_what_they_absorbed_in_a_unit(unet, quantization):
    """A transformer block's unit, attention operands included, is what the converted model computes."""
    unit = "mid_block.attentions.0.transformer_blocks.0"
    model = convert(unet, quantization)
    trained = TrainedUnit(model, unit, weighted_layers(unet), quantization, Trainable())
    sites = {f"{unit}.{attn}.{operand}" for attn in ("attn1", "attn2") for operand in OPERANDS}
    assert set(trained.operands) == sites
    x, text = torch.randn(2, 16, 64), torch.randn(2, 6, 64)
    expected = model.get_submodule(unit)(x, encoder_hidden_states=text)
    torch.testing.assert_close(trained.module(x, encoder_hidden_states=text), expected, rtol=1e-2, atol=1e-2)
