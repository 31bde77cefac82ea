"""Folders whose weights name a variant: `model.fp16.safetensors`."""

import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from qvd.models.hub import find_folder
from qvd.models.loading import load_pipeline
from qvd.models.pretrained import variants_in
from tests.hub_folders import saved
from tests.models.damaged import adapter_of, at, copied, weights_of

NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    monkeypatch.setattr("qvd.models.loading.check_memory", lambda adapter, device: None)


def rename(folder, variant):
    file = weights_of(folder)
    return file.rename(file.with_suffix(f".{variant}.safetensors"))


def first_weight(pipeline):
    return pipeline.unet.conv_in.weight


def test_the_only_variant_is_found_and_said(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    expected = load_pipeline(adapter, "cpu").unet.state_dict()
    for part in NETWORKS:
        rename(tmp_path / part, "fp16")
    with pytest.warns(UserWarning, match=r"^model.variant=null: .*unet has fp16 weights.*, which are read$"):
        found = load_pipeline(adapter, "cpu").unet.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_plain_weights_come_before_a_variant_that_is_asked_for_by_name(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    plain = weights_of(tmp_path / "unet")
    state = load_file(plain)
    save_file({**state, "conv_in.weight": state["conv_in.weight"] * 2}, plain.with_suffix(".fp16.safetensors"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        weight = first_weight(load_pipeline(adapter, "cpu"))
    asked = at("tiny_modelscope", tmp_path, variant="fp16")
    with pytest.warns(UserWarning, match="model.variant=fp16: vae has plain weights, text_encoder has plain weights"):
        assert torch.equal(first_weight(load_pipeline(asked, "cpu")), 2 * weight)
    assert asked.fingerprint() == adapter.fingerprint()  # the option tells them apart


def test_a_variant_that_is_nowhere_and_one_of_several_are_refused(tmp_path):
    copied("tiny_modelscope", tmp_path)
    with pytest.raises(ValueError, match=r"^model.variant=fp8: of no part; vae has plain weights, "):
        load_pipeline(at("tiny_modelscope", tmp_path, variant="fp8"), "cpu")
    other = rename(tmp_path / "unet", "fp16")
    with pytest.raises(ValueError, match=r"unet: model.variant=bf16: there are fp16"):
        load_pipeline(at("tiny_modelscope", tmp_path, variant="bf16"), "cpu")
    other.with_name("diffusion_pytorch_model.bf16.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"unet: model.variant=null: there are bf16 and fp16"):
        load_pipeline(at("tiny_modelscope", tmp_path), "cpu")


def test_motion_modules_of_a_variant_are_found(tmp_path):
    adapter = adapter_of(*saved("animatediff", tmp_path))
    rename(tmp_path / "motion", "fp16")
    with pytest.warns(UserWarning, match=r"^model.variant=null: motion_adapter has fp16 weights, which are read$"):
        load_pipeline(adapter, "cpu")


def test_a_sharded_variant_is_read(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    unet = load_pipeline(adapter, "cpu").unet
    weights_of(tmp_path / "unet").unlink()
    unet.save_pretrained(tmp_path / "unet", variant="fp16", max_shard_size="4MB")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    with pytest.warns(UserWarning, match="model.variant=null: unet has fp16 weights"):
        assert torch.equal(first_weight(load_pipeline(adapter, "cpu")), unet.conv_in.weight)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("diffusion_pytorch_model.safetensors", ""),
        ("diffusion_pytorch_model.bin", ""),
        ("model-00001-of-00002.safetensors", ""),
        ("pytorch_model.fp16.bin", "fp16"),
        ("model.fp16-00001-of-00002.safetensors", "fp16"),
        ("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", "fp16"),
        ("diffusion_pytorch_model.non_ema.safetensors", "non_ema"),
        ("config.json", None),
        ("flax_model.msgpack", None),
        ("diffusion_pytorch_model.safetensors.index.json", None),
    ],
)
def test_names_of_weights(name, variant, tmp_path):
    (tmp_path / name).touch()
    assert variants_in(tmp_path) == ({variant} - {None})


def test_a_variant_is_what_is_downloaded(monkeypatch):
    asked = []
    monkeypatch.setattr("diffusers.DiffusionPipeline.download", lambda path, **options: asked.append(options) or path)
    monkeypatch.setattr("qvd.models.hub.snapshot_download", lambda path, **options: asked.append(options) or path)
    for variant in (None, "fp16"):
        find_folder("some/pipeline", "abc", False, "model_index.json", variant=variant)
        find_folder("some/part", None, False, "config.json", variant=variant)
    assert [options["variant"] for options in asked[::2]] == [None, "fp16"]
    assert [options["allow_patterns"][1] for options in asked[1::2]] == [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
    ]
