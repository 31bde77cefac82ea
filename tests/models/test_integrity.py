"""Weights that are not the network's, and folders that are not the family's: one line that names the part."""

import json
import pickle
import re
import shutil
import warnings

import pytest
import torch
from diffusers import MotionAdapter

from experiments.attributes import compose_run_config
from experiments.experiment import run_experiment
from experiments.stages.evaluation import Evaluator
from qvd.models.loading import load_pipeline
from tests.hub_folders import save_animatediff, saved
from tests.models.damaged import (
    adapter_of,
    added,
    at,
    copied,
    edit_json,
    edit_weights,
    renamed,
    reshaped,
    weights_of,
    without,
)

NETWORKS = [
    ("tiny_modelscope", "unet"),
    ("tiny_modelscope", "vae"),
    ("tiny_modelscope", "text_encoder"),
    ("tiny_animatediff", "unet"),
    ("tiny_latte", "transformer"),
    ("tiny_latte", "text_encoder"),
    ("tiny_latte_cc", "transformer"),
]
DAMAGE = {
    without: r"[23] missing \(\S+, \S+",
    renamed: r"1 missing \(\S+\); 1 unknown to \w+ \(\S+_old\)",
    reshaped: r"1 of another shape \(\S+ \d+×\d+ instead of \d+×\d+\)",
}


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    monkeypatch.setattr("qvd.models.loading.check_memory", lambda adapter, device: None)


def refusal(adapter):
    """The one line that loading ends in."""
    with pytest.raises((ValueError, OSError)) as error:
        load_pipeline(adapter, "cpu")
    message = str(error.value)
    assert "\n" not in message and message.startswith("model."), message
    return message


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("model", "part"), NETWORKS)
def test_weights_that_do_not_fit_their_network_are_named(model, part, damage, tmp_path):
    adapter = copied(model, tmp_path)
    edit_weights(tmp_path / part, damage)
    message = refusal(adapter)
    assert message.startswith(f"model.path={tmp_path}: {part}: its weights do not fit")
    assert re.search(DAMAGE[damage], message), message


def test_many_missing_weights_are_counted(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    edit_weights(tmp_path / "unet", lambda state: dict(list(state.items())[:1]))
    assert re.search(r"\d{3} missing \(\S+, \S+, \S+, …\)", refusal(adapter))


def test_weights_without_a_place_in_a_denoiser_are_refused_and_in_a_text_encoder_warned_of(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    edit_weights(tmp_path / "text_encoder", added)
    with pytest.warns(UserWarning, match=r"text_encoder: weights that are not used: 1 unknown .*\(left.over\)"):
        load_pipeline(adapter, "cpu")
    edit_weights(tmp_path / "unet", added)
    assert "1 unknown to UNet3DConditionModel (left.over)" in refusal(adapter)


def test_motion_modules_that_do_not_fit_are_named(tmp_path):
    adapter = adapter_of(*saved("animatediff", tmp_path))
    edit_weights(tmp_path / "motion", without)
    message = refusal(adapter)
    assert message.startswith(
        f"model.motion_adapter={tmp_path}/motion: its weights do not fit MotionAdapter: 2 missing"
    )
    MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4
    ).save_pretrained(tmp_path / "motion")
    assert "Incompatible Motion Adapter, got different number of blocks" in refusal(adapter)


def test_an_image_models_unet_needs_motion_modules_and_a_videos_takes_none(tmp_path):
    save_animatediff(tmp_path)
    message = refusal(at("tiny_animatediff", tmp_path / "image"))
    assert message.startswith("model.motion_adapter=None: the unet of") and "name a folder" in message
    adapter = copied("tiny_animatediff", tmp_path / "video")
    message = refusal(at("tiny_animatediff", adapter.path, motion_adapter=str(tmp_path / "motion")))
    assert message.startswith(f"model.motion_adapter={tmp_path}/motion: must be null")


@pytest.fixture
def no_weights_are_read(monkeypatch):
    def read(*arguments, **options):
        raise AssertionError("weights were read")

    monkeypatch.setattr("qvd.models.base.load_parts", read)


@pytest.mark.usefixtures("no_weights_are_read")
@pytest.mark.parametrize(
    ("model", "other", "message"),
    [
        ("tiny_modelscope", "tiny_animatediff", r"is of AnimateDiffPipeline, its unet is diffusers.UNetMotionModel"),
        ("tiny_animatediff", "tiny_modelscope", "allowed is UNet2DConditionModel or UNetMotionModel"),
        ("tiny_latte", "tiny_modelscope", "tokenizer is transformers.CLIPTokenizer; allowed is T5Tokenizer"),
        ("tiny_modelscope", "tiny_latte_cc", "text_encoder is null in model_index.json; this family needs CLIPText"),
        ("tiny_latte_cc", "tiny_latte", "transformer is diffusers.LatteTransformer3DModel; allowed is ClassLatte"),
    ],
)
def test_another_familys_folder_is_refused(model, other, message, tmp_path):
    adapter = at(model, copied(other, tmp_path).path)
    assert re.search(message, refusal(adapter))


@pytest.mark.usefixtures("no_weights_are_read")
@pytest.mark.parametrize(("model", "part"), [("tiny_modelscope", "unet"), ("tiny_latte", "text_encoder")])
@pytest.mark.parametrize("entry", [None, [None, None], [None, "UNet3DConditionModel"], "unet", ["diffusers"], 7])
def test_a_null_part_is_named(model, part, entry, tmp_path):
    adapter = copied(model, tmp_path)
    edit_json(tmp_path / "model_index.json", **{part: entry})
    assert refusal(adapter).startswith(f"model.path={tmp_path}: {part} is ")


@pytest.mark.usefixtures("no_weights_are_read")
@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "unet", "vae", "scheduler"])
def test_a_missing_folder_is_named(part, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    shutil.rmtree(tmp_path / part)
    assert refusal(adapter) == f"model.path={tmp_path}: {part}: the folder {tmp_path / part} is missing"


def test_a_run_refuses_a_folder_before_it_computes_anything(tmp_path, monkeypatch):
    copied("tiny_modelscope", tmp_path / "model")
    edit_json(tmp_path / "model" / "model_index.json", tokenizer=None)
    monkeypatch.setattr(Evaluator, "reference_features", lambda _: pytest.fail("clips were read"))
    words = [f"model.path={tmp_path}/model", "model.embedded=false", f"store={tmp_path}/store", "tracking=disabled"]
    with pytest.raises(ValueError, match=r"tokenizer is null in model_index.json; this family needs CLIPTokenizer"):
        run_experiment(compose_run_config(words), tmp_path / "run", "", words)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"_class_name": "TextToVideoSDPipeline"}', "\xff"])
def test_a_damaged_index_is_one_line(text, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    (tmp_path / "model_index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"model_index\.json") as error:
        load_pipeline(adapter, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"_class_name": 3, "block_out_channels": "a"}', None])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_damaged_config_is_one_line(part, content, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    file = tmp_path / part / "config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=part) as error:
        load_pipeline(adapter, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["tiny_modelscope", "tiny_latte"])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{}", "[]", "", None])
def test_a_tokenizer_of_nothing_is_refused(model, file, content, tmp_path):
    adapter, path = copied(model, tmp_path), tmp_path / "tokenizer" / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match="tokenizer") as error:
        load_pipeline(adapter, "cpu")
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_text_encoder_is_refused(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    vocabulary = tmp_path / "tokenizer" / "tokenizer.json"
    content = json.loads(vocabulary.read_text())
    content["model"]["vocab"]["elephant</w>"] = 40_000
    vocabulary.write_text(json.dumps(content))
    assert re.search(r"tokenizer: it counts to \d+, the text encoder has \d+ embeddings", refusal(adapter))


@pytest.mark.parametrize("steps", [10**12, 1e3, 0, -5, "many", None])
def test_a_scheduler_of_too_many_steps_is_refused(steps, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    edit_json(tmp_path / "scheduler" / "scheduler_config.json", num_train_timesteps=steps)
    assert f"scheduler: num_train_timesteps={steps}: must be an integer in 1..100000" in refusal(adapter)


@pytest.mark.parametrize("values", [{"beta_schedule": "odd"}, {"beta_start": "a"}, {"trained_betas": "none"}])
def test_a_scheduler_that_cannot_be_made_is_one_line(values, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    edit_json(tmp_path / "scheduler" / "scheduler_config.json", **values)
    assert "scheduler: cannot be loaded: " in refusal(adapter)


@pytest.mark.parametrize("name", ["OddScheduler", "UNet3DConditionModel", "DiffusionPipeline"])
def test_what_is_no_scheduler_is_refused(name, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    edit_json(tmp_path / "model_index.json", scheduler=["diffusers", name])
    assert f"its scheduler is diffusers.{name}; allowed is a scheduler of diffusers" in refusal(adapter)


@pytest.mark.parametrize(("model", "part"), NETWORKS)
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_truncated_weights_are_named(model, part, share, tmp_path):
    adapter = copied(model, tmp_path)
    file = weights_of(tmp_path / part)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert refusal(adapter).startswith(f"model.path={tmp_path}: {part}: cannot be loaded: ")


@pytest.mark.parametrize(("model", "part"), NETWORKS)
def test_missing_weights_are_named(model, part, tmp_path):
    adapter = copied(model, tmp_path)
    weights_of(tmp_path / part).unlink()
    assert refusal(adapter) == f"model.path={tmp_path}: {part}: no weights in {tmp_path / part}"


@pytest.mark.parametrize("part", ["text_encoder", "unet"])
def test_a_pickle_is_not_run(part, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path / "model")
    folder = tmp_path / "model" / part
    weights_of(folder).unlink()
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save({"weight": Evil(tmp_path)}, folder / name)
    assert f"{part}: cannot be loaded: a pickle that names shutil.copy, which was not run" in refusal(adapter)
    for content in (pickle.dumps(Evil(tmp_path)), b"not weights"):
        (folder / name).write_bytes(content)
        assert f"{part}: cannot be loaded: a file that holds no weights" in refusal(adapter)
    assert not (tmp_path / "ran").exists()


def test_a_plain_bin_file_is_read(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    expected = load_pipeline(adapter, "cpu").text_encoder.state_dict()
    weights_of(tmp_path / "text_encoder").unlink()
    torch.save(expected, tmp_path / "text_encoder" / "pytorch_model.bin")
    found = load_pipeline(adapter, "cpu").text_encoder.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (shutil.copy, (str(self.folder / "model" / "model_index.json"), str(self.folder / "ran")))


CODE = "from pathlib import Path\nPath({!r}).write_text('')\n"


def test_nothing_that_a_folder_names_is_imported_or_run(tmp_path, monkeypatch):
    """Extra parts, `auto_map`, `trust_remote_code` and a pipeline of its own are warned of by name."""
    folder, ran = tmp_path / "model", tmp_path / "ran"
    adapter = copied("tiny_modelscope", folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder / "extra")
    places = [folder, *(folder / part for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "extra"))]
    (folder / "extra").mkdir()
    for place in places:
        for module in ("evil", "pipeline", "__init__"):
            (place / f"{module}.py").write_text(CODE.format(str(ran)))
    index = folder / "model_index.json"
    edit_json(index, _class_name=["pipeline", "Evil"], extra=["evil", "Evil"], safety_checker=[None, None])
    code = {"auto_map": {"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}, "trust_remote_code": True}
    code["_target_"] = "evil.Evil"  # which a config of ours would have imported
    for place in places[1:5]:
        name = "tokenizer_config.json" if place.name == "tokenizer" else "config.json"
        edit_json(place / name, **code)
    with pytest.warns(UserWarning) as caught:
        load_pipeline(adapter, "cpu")
    said = " ".join(str(warning.message) for warning in caught)
    assert "left alone, since no pipeline of this family has it: extra (evil.Evil)" in said
    assert "names code of its own, which is never run: _class_name pipeline.Evil in model_index.json" in said
    for part, name in (("unet", "config"), ("text_encoder", "config"), ("tokenizer", "tokenizer_config")):
        assert f"auto_map in {part}/{name}.json" in said and f"trust_remote_code in {part}/{name}.json" in said
    assert not ran.exists()


@pytest.mark.parametrize("entry", [["evil", "UNet3DConditionModel"], ["evil", "Evil"], ["diffusers", "Evil"]])
def test_a_part_of_foreign_code_is_refused_and_not_run(entry, tmp_path, monkeypatch):
    folder, ran = tmp_path / "model", tmp_path / "ran"
    adapter = copied("tiny_modelscope", folder)
    monkeypatch.syspath_prepend(folder)
    for place in (folder, folder / "unet"):
        (place / "evil.py").write_text(CODE.format(str(ran)))
    edit_json(folder / "model_index.json", unet=entry)
    assert f"its unet is {'.'.join(entry)}; allowed is UNet3DConditionModel" in refusal(adapter)
    assert not ran.exists()


def test_parts_that_the_folders_own_pipeline_has_are_no_extras(tmp_path):
    """Stable Diffusion's safety checker is no part of a video pipeline, and nothing to warn of."""
    adapter = adapter_of(*saved("animatediff", tmp_path))
    edit_json(
        tmp_path / "image" / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_pipeline(adapter, "cpu")


def test_weights_that_are_quantized_already_are_refused(tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    edit_json(tmp_path / "unet" / "config.json", quantization_config={"load_in_4bit": True})
    assert "unet: its weights are quantized already" in refusal(adapter)


OLD_NAMES = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}


def with_old_names(state):
    def old(name):
        for new, before in OLD_NAMES.items():
            name = name.replace(new, before)
        return name

    return {old(name): tensor for name, tensor in state.items()}


def as_clip_was_saved(state):
    positions = torch.arange(16)[None]
    return {f"text_model.{name}": t for name, t in state.items()} | {"text_model.embeddings.position_ids": positions}


@pytest.mark.parametrize(("part", "change"), [("vae", with_old_names), ("text_encoder", as_clip_was_saved)])
def test_names_of_older_libraries_are_no_mismatch(part, change, tmp_path):
    adapter = copied("tiny_modelscope", tmp_path)
    expected = getattr(load_pipeline(adapter, "cpu"), part).state_dict()
    edit_weights(tmp_path / part, change)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = getattr(load_pipeline(adapter, "cpu"), part).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
