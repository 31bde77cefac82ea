"""Full-size models from their configs alone: on the meta device, where nothing is computed and no memory is taken."""

import math
import re
from dataclasses import replace

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from qvd.graph.sites import weighted_layers
from qvd.graph.units import unit_layers
from qvd.models.hub import find_folder
from qvd.models.latte_network import ClassLatte
from qvd.models.memory_estimate import GIB, advice, check_memory, required_memory
from qvd.models.released import load_released
from qvd.options.hub import HUB_ID
from qvd.options.model import Offload
from qvd.options.units import Reconstruction

FULL_SIZE = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if not path.stem.startswith("tiny_"))
PARAMETERS = {"modelscope": 1411.2, "animatediff": 1312.7, "latte": 1057.2}  # millions; class-conditional: below


def full_size(model, *words):
    return compose_run_config([f"model={model}", "model.init=random", *words])


# The three unconditional models are one architecture.
REPEATED = ("latte_ffs", "latte_taichi")


@pytest.fixture(
    scope="module", params=[pytest.param(m, marks=pytest.mark.full if m in REPEATED else ()) for m in FULL_SIZE]
)
def config(request):
    return full_size(request.param)


@pytest.fixture(scope="module")
def denoiser(config):
    return config.model.empty_denoiser().to("meta")


def test_the_architecture_is_the_published_one(config, denoiser):
    millions = sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS.get(config.model_name, 674.0), abs=0.2)


def test_every_hub_id_is_pinned_to_a_commit(config):
    model = config.model
    pins = {"path": model.revision}
    pins |= {part: getattr(model, f"{part}_revision") for part in ("motion_adapter", "vae") if hasattr(model, part)}
    for part, revision in pins.items():
        assert HUB_ID.fullmatch(getattr(model, part)) and re.fullmatch(r"[0-9a-f]{40}", revision or ""), part


def test_blocks_hold_every_layer_and_temporal_sites_are_layers(config, denoiser):
    anatomy = config.model.anatomy(denoiser)
    held = [layer for block in anatomy.blocks[Reconstruction.block] for layer in unit_layers(denoiser, block)]
    assert sorted(held) == sorted(weighted_layers(denoiser))
    assert set(anatomy.temporal_sites) <= set(weighted_layers(denoiser))


def test_memory_is_estimated_per_stage_and_refused_with_advice(config, monkeypatch):
    needed = required_memory(config.model)
    assert needed["quantized sampling"] > needed["FP sampling"] > 1.2 * GIB
    monkeypatch.setattr("qvd.models.memory_estimate.required_memory", lambda adapter: needed)
    monkeypatch.setattr("qvd.models.memory_estimate.available_memory", lambda device: 2**60)
    check_memory(config.model, "cpu")
    monkeypatch.setattr("qvd.models.memory_estimate.available_memory", lambda device: GIB)
    with pytest.raises(ValueError, match=r"needs about \d+\.\d GiB and cpu has 1\.0 GiB free: (.*model\.|no)"):
        check_memory(config.model, "cpu")


@pytest.mark.parametrize(
    "config", [pytest.param(m, marks=() if m == "latte_ucf101" else pytest.mark.full) for m in FULL_SIZE], indirect=True
)
def test_offload_needs_less_memory_and_is_advised_once(config):
    none, parts, layers = (required_memory(replace(config.model, offload=offload)) for offload in Offload)
    for stage, needed in none.items():
        assert needed > parts[stage] > layers[stage]
    assert "model.offload=model" in advice(config.model, "cuda")
    assert "model.offload" not in advice(replace(config.model, offload=Offload.model), "cuda")
    assert ("model.resolution" in advice(config.model, "cuda")) == config.model.resizable


def test_offline_says_in_one_line_what_to_download_and_where_to_put_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError) as error:
        find_folder("damo-vilab/text-to-video-ms-1.7b", "abc", False, "model_index.json")
    message = str(error.value)
    assert "hf download damo-vilab/text-to-video-ms-1.7b --revision abc --local-dir FOLDER" in message
    assert "model.path=FOLDER" in message and "\n" not in message


def released_names(depth):
    """The released module's parameter names, written down from its source."""
    fixed = ["pos_embed", "temp_embed", "y_embedder.embedding_table.weight"]
    layers = ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "final_layer.linear"]
    layers += ["final_layer.adaLN_modulation.1"]
    inside = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1"]
    layers += [f"blocks.{i}.{layer}" for i in range(depth) for layer in inside]
    return {*fixed, *(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))}


@pytest.mark.full
@torch.no_grad()
def test_a_released_checkpoint_loads_strictly_and_runs(tmp_path):
    """28 blocks of 1152 channels in the released layout; in bfloat16 and for 2 of 16 frames, to be quick."""
    adapter = full_size("latte_ucf101").model
    empty = adapter.empty_denoiser()
    shapes = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    assert set(shapes) == released_names(28)
    assert shapes["y_embedder.embedding_table.weight"] == (102, 1152) and shapes["temp_embed"] == (1, 16, 1152)
    values = torch.empty(6 * 1152 * 1152, dtype=torch.bfloat16).uniform_(-0.05, 0.05)
    # All of them views of the same values: 16 MB instead of 1.3 GB, in memory and in the file.
    state = {name: values[: math.prod(shape)].view(shape) for name, shape in shapes.items()}
    state["temp_embed"] = state["temp_embed"][:, :2].clone()
    torch.save({"ema": state}, tmp_path / "ucf101.pt")
    with pytest.raises(ValueError, match=r"^here: .*1 of another shape \(temp_embed 1×2×1152 instead of 1×16×1152\)"):
        load_released(empty, tmp_path / "ucf101.pt", "here")
    with torch.device("meta"):
        network = ClassLatte.from_config({**empty.config, "num_frames": 2})
    network = load_released(network, tmp_path / "ucf101.pt", "here").eval()
    sample = torch.randn(1, 2, 4, 32, 32, dtype=torch.bfloat16)
    output = network(sample, torch.tensor([500]), torch.tensor([101])).sample
    assert output.shape == (1, 2, 8, 32, 32) and output.isfinite().all() and output.float().std() > 0
