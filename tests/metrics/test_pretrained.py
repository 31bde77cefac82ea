"""CLIP and VideoMAE folders that are damaged, incomplete or a stranger's: one line, and nothing of theirs runs."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from metrics.clipsim import SHAPES_CLIP, ClipScorer
from metrics.extractors.videomae import VideoMAEExtractor


def save_clip(folder):
    shutil.copytree(SHAPES_CLIP, folder, dirs_exist_ok=True)


def save_videomae(folder):
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = VideoMAEConfig(image_size=16, patch_size=8, num_frames=4, use_mean_pooling=True, **sizes)
    VideoMAEForVideoClassification(config).save_pretrained(folder)


NETWORKS = {
    "CLIP": (save_clip, ClipScorer.from_pretrained),
    "videomae": (save_videomae, VideoMAEExtractor.from_pretrained),
}


@pytest.fixture(params=NETWORKS)
def network(request, tmp_path):
    """A network's name, and how its folder at `tmp_path` is loaded."""
    save, load = NETWORKS[request.param]
    save(tmp_path)
    return request.param, lambda: load(tmp_path)


def refusal(network, tmp_path):
    name, load = network
    with pytest.raises(ValueError, match=f"{name} {tmp_path}: ") as error:
        load()
    assert "\n" not in str(error.value)
    return str(error.value).partition(f"{tmp_path}: ")[2]


def edit(tmp_path, change):
    save_file(change(load_file(tmp_path / "model.safetensors")), tmp_path / "model.safetensors", {"format": "pt"})


def renamed(state):
    return {f"{name}_old" if number == 0 else name: tensor for number, (name, tensor) in enumerate(state.items())}


def reshaped(state):
    name = next(name for name, tensor in state.items() if tensor.dim() == 2)
    return {**state, name: state[name][:-1].clone()}


def test_weights_that_do_not_fit_are_named(network, tmp_path):
    edit(tmp_path, renamed)
    message = refusal(network, tmp_path)
    assert "1 missing (" in message and "1 not used (" in message and "_old)" in message
    edit(tmp_path, lambda state: dict(list(state.items())[:3]))
    assert ", …)" in refusal(network, tmp_path)


def test_weights_of_other_shapes_are_named(network, tmp_path):
    edit(tmp_path, reshaped)
    assert "1 of other shapes (" in refusal(network, tmp_path)


def test_leftover_weights_are_warned_of(network, tmp_path):
    edit(tmp_path, lambda state: {**state, "left.over": torch.ones(1)})
    with pytest.warns(UserWarning, match=r"weights that are 1 not used \(left\.over\)"):
        network[1]()


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, None])
def test_damaged_weights_are_one_line(network, content, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    assert refusal(network, tmp_path).startswith("cannot be loaded: ")


class Evil:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (shutil.copy, (str(self.folder / "config.json"), str(self.folder / "ran")))


def test_a_pickle_is_not_run(network, tmp_path):
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": Evil(tmp_path)}, tmp_path / "pytorch_model.bin")
    assert "a pickle of something else than weights, not run" in refusal(network, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path)))
    assert refusal(network, tmp_path).startswith("cannot be loaded: ")
    assert not (tmp_path / "ran").exists()


def test_code_of_a_folder_is_warned_of_and_not_run(network, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        if (tmp_path / name).is_file():
            content = json.loads((tmp_path / name).read_text())
            code = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
            (tmp_path / name).write_text(json.dumps({**content, "auto_map": code}))
    with pytest.warns(UserWarning, match=r"names code of its own, which is never run: auto_map in config\.json"):
        network[1]()
    assert not (tmp_path / "ran").exists()


def test_nothing_at_all_is_one_line(network, tmp_path):
    for path in tmp_path.iterdir():
        path.unlink()
    assert refusal(network, tmp_path).startswith("cannot be loaded: ")


@pytest.mark.parametrize("content", ["{}", "", None])
def test_a_tokenizer_of_nothing_is_refused(content, tmp_path):
    save_clip(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.unlink() if content is None else file.write_text(content)
    message = refusal(("CLIP", lambda: ClipScorer.from_pretrained(tmp_path)), tmp_path)
    assert message == "tokenizer: it has no vocabulary" if content is None else "cannot be loaded: " in message


def test_a_tokenizer_of_another_network_is_refused(tmp_path):
    save_clip(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["elephant</w>"] = 40_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    message = refusal(("CLIP", lambda: ClipScorer.from_pretrained(tmp_path)), tmp_path)
    assert "tokenizer: it counts to 40000" in message
