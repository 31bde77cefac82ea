"""Every config in conf/model, by walking the folder: embedded models as they ship, others on the meta device."""

from types import SimpleNamespace

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from qvd.backends.base import ExecutedLayer
from qvd.backends.convert import convert
from qvd.graph.linear_map import TemporalConvMap
from qvd.graph.sites import attention_modules, operand_sites, weighted_layers
from qvd.models.loading import load_pipeline
from qvd.spec.quantization import LayerQuantization, Quantization
from tests.tiny_unet import context_of

MODELS, QUANTIZERS = (sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("model", "quantizer"))
SHIPPED = [name for name in MODELS if name.startswith("tiny_")]
LOOKED_UP = ("embedding_table.weight", "scale_shift_table", "pos_embed", "temp_embed")  # read by row or added


# The three unconditional models are one architecture.
REPEATED = ("latte_ffs", "latte_taichi")


@pytest.fixture(
    scope="module", params=[pytest.param(m, marks=pytest.mark.full if m in REPEATED else ()) for m in MODELS]
)
def model(request):
    """The adapter, its denoiser, and the arguments of one call."""
    embedded = request.param in SHIPPED
    adapter = compose_run_config([f"model={request.param}", *([] if embedded else ["model.init=random"])]).model
    denoiser = adapter.denoiser(load_pipeline(adapter, "cpu")) if embedded else adapter.empty_denoiser().to("meta")
    torch.manual_seed(0)
    with torch.device("cpu" if embedded else "meta"):
        call = adapter.example_call(denoiser, 2)
    return SimpleNamespace(adapter=adapter, denoiser=denoiser, call=call)


@pytest.fixture(scope="module")
def wrapped(model):
    """Every layer wrapped and left in floating point: a shift of zero keeps it from being skipped."""
    layers = {
        name: LayerQuantization(name, "", "test", shift=torch.zeros(layer.weight.shape[1]))
        for name, layer in weighted_layers(model.denoiser).items()
    }
    return convert(model.denoiser, Quantization(layers, {}))


@pytest.fixture(scope="module")
def methods():
    return [compose_run_config([f"quantizer={quantizer}"]).arms[0].method for quantizer in QUANTIZERS]


def test_every_matrix_is_the_weight_of_a_layer_that_can_be_quantized(model):
    weights = {f"{name}.weight" for name in weighted_layers(model.denoiser)}
    others = {name for name, p in model.denoiser.named_parameters() if p.dim() > 1} - weights
    assert weights and {name for name in others if not name.endswith(LOOKED_UP)} == set()


def test_every_layer_is_reached_by_a_rule(model, methods):
    layers = weighted_layers(model.denoiser)
    context = context_of(model.adapter, model.denoiser, "w6a6", torch.empty(0))
    for method in methods:
        plan = method.site_bits(model.denoiser, context)
        assert set(plan) == {*layers, *operand_sites(model.denoiser)}, method.name
        special = method.exceptions(context.anatomy.boundary, context.bits)
        assert all(plan[name].weight == 6 or name in special for name in layers), method.name


@torch.no_grad()
def test_every_wrapped_layer_is_called_in_one_step(model, wrapped):
    sites = {name: module for name, module in wrapped.named_modules() if isinstance(module, ExecutedLayer)}
    assert len(sites) == len(weighted_layers(model.denoiser)) and not weighted_layers(wrapped)
    sites |= attention_modules(wrapped)
    called = set()
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: called.add(name))
        for name, module in sites.items()
    ]
    output = wrapped(**model.call).sample
    for handle in handles:
        handle.remove()
    assert called == set(sites)
    latents = next(model.call[name] for name in ("sample", "hidden_states") if name in model.call)
    assert output.shape[0] == len(latents) and output.shape[-2:] == latents.shape[-2:]


@torch.no_grad()
@pytest.mark.parametrize("model", SHIPPED, indirect=True)
def test_wrapping_is_exact_in_floating_point(model, wrapped):
    """Bit for bit, but for temporal convolutions, which add the same products in another order."""
    original = model.denoiser(**model.call).sample
    assert torch.equal(convert(model.denoiser, Quantization({}, {}))(**model.call).sample, original)
    reordered = []

    def compare(layer):
        def hook(wrapper, args, kwargs, output):
            expected = layer(args[0] if args else kwargs["input"])
            if isinstance(wrapper.linear_map, TemporalConvMap):
                reordered.append(wrapper)
                torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
            else:
                assert torch.equal(output, expected)

        return hook

    handles = [
        wrapped.get_submodule(name).register_forward_hook(compare(layer), with_kwargs=True)
        for name, layer in weighted_layers(model.denoiser).items()
    ]
    output = wrapped(**model.call).sample
    for handle in handles:
        handle.remove()
    tolerance = 1e-4 if reordered else 0
    torch.testing.assert_close(output, original, rtol=tolerance, atol=tolerance)
