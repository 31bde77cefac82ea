"""What a model tells the reconstruction: its units, and where skip concatenations are read."""

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from qvd.graph.sites import weighted_layers
from qvd.models.loading import load_pipeline
from qvd.options.units import Reconstruction

MODELS = sorted(path.stem for path in (CONF / "model").glob("tiny_*.yaml"))


@pytest.fixture(scope="module", params=MODELS)
def adapter(request):
    return compose_run_config([f"model={request.param}"]).model


@pytest.fixture(scope="module")
def denoiser(adapter):
    return adapter.denoiser(load_pipeline(adapter, "cpu"))


def test_units_are_disjoint_and_hold_every_layer(adapter, denoiser):
    layers = list(weighted_layers(denoiser))
    blocks = adapter.anatomy(denoiser).blocks
    units = blocks[Reconstruction.block]
    for layer in layers:
        assert sum(layer == unit or layer.startswith(f"{unit}.") for unit in units) == 1
    assert len(units) < len(layers) / 2
    assert blocks[Reconstruction.layer] == tuple(layers)
    assert blocks[Reconstruction.none] == ()


@torch.no_grad()
def test_skips_start_where_the_adapter_says():
    """On the real U-Net: from that channel on, a shortcut's input is one of the down path's activations."""
    adapter = compose_run_config(["model=tiny_modelscope"]).model
    unet = adapter.denoiser(load_pipeline(adapter, "cpu"))
    splits = adapter.anatomy(unet).shortcuts
    skips, inputs = [], {}
    for block in unet.down_blocks:
        block.register_forward_hook(lambda module, args, output: skips.extend(output[1]))
    unet.transformer_in.register_forward_hook(lambda module, args, output: skips.append(output[0]))
    for name in splits:
        module = unet.get_submodule(name)
        module.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0]}))
    unet(torch.randn(1, 4, 8, 8, 8), torch.tensor([5]), torch.randn(1, 16, 64))
    assert len(splits) == 4
    for name, channel in splits.items():
        skip = inputs[name][:, channel:]
        assert any(skip.shape == s.shape and torch.equal(skip, s) for s in skips)
