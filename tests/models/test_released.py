"""Class-conditional Latte checkpoints as training scripts leave them."""

import argparse
import collections
import pickle
import re
from dataclasses import replace

import pytest
import torch

from qvd.models.loading import load_pipeline
from tests.models.test_integrity import Evil


@pytest.fixture(scope="module")
def original(random_adapter):
    return random_adapter("latte_class")


@pytest.fixture(scope="module")
def state(original):
    return load_pipeline(original, "cpu").transformer.state_dict()


@pytest.fixture
def load(original, tmp_path, monkeypatch):
    """Content of a checkpoint → the network that is made of it."""
    monkeypatch.setattr("qvd.models.loading.check_memory", lambda adapter, device: None)
    folder = original.folder()
    released = {"path": str(tmp_path), "checkpoint": "0100.pt", "vae": f"{folder}/vae", "architecture": str(folder)}

    def load(content):
        torch.save(content, tmp_path / "0100.pt")
        return load_pipeline(replace(original, **released), "cpu").transformer

    return load


def negative(state):
    return {name: -tensor for name, tensor in state.items()}


def prefixed(state, prefix="module."):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def optimizer(state):
    parameters = [torch.nn.Parameter(state["pos_embed"].clone())]
    adamw = torch.optim.AdamW(parameters, lr=1e-4)
    parameters[0].sum().backward()
    adamw.step()
    return adamw.state_dict()


TRAINED = argparse.Namespace(config="./configs/ucf101/ucf101_train.yaml", lr=1e-4, ckpt=None, num_frames=16)
CONTENTS = {
    "as trained": lambda s: {"model": negative(s), "ema": s, "opt": optimizer(s), "args": TRAINED},
    "trained by several processes": lambda s: {"model": prefixed(negative(s)), "ema": prefixed(s), "args": TRAINED},
    "compiled": lambda s: {"ema": prefixed(s, "module._orig_mod.")},
    "bare": lambda s: s,
    "bare, ordered, with a prefix": lambda s: collections.OrderedDict(prefixed(s)),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_every_layout_gives_the_same_network(content, load, state):
    network = load(CONTENTS[content](state))
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_without_ema_the_trained_weights_are_read_and_said(load, state):
    with pytest.warns(UserWarning, match="model.checkpoint=0100.pt: has no EMA weights"):
        network = load({"model": state, "opt": {}, "args": TRAINED})
    assert torch.equal(network.pos_embed, state["pos_embed"])


class Settings:
    """What a training script of one's own may save."""


REFUSED = {
    "a pickle that names tests.models.test_released.Settings, which was not run": lambda s: {
        "ema": s,
        "args": Settings(),
    },
    "no Latte checkpoint; it holds encoder.weight": lambda s: {"encoder.weight": s["pos_embed"]},
    "no Latte checkpoint; it holds nothing": lambda s: {},
    "holds Tensor, no weights": lambda s: s["pos_embed"],
    "its weights are int, no state dict": lambda s: {"ema": 7},
    "1 missing (temp_embed)": lambda s: {"ema": {n: t for n, t in s.items() if n != "temp_embed"}},
    "1 unknown to ClassLatte (extra)": lambda s: {**s, "extra": s["pos_embed"]},
    "1 of another shape (temp_embed": lambda s: {**s, "temp_embed": s["temp_embed"][:, :2].clone()},
}


@pytest.mark.parametrize("message", REFUSED)
def test_anything_else_is_one_line(message, load, state):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load(REFUSED[message](state))
    assert str(error.value).startswith("model.checkpoint=0100.pt: ") and "\n" not in str(error.value)


def test_what_a_checkpoint_would_run_is_not_run(load, state, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").touch()
    with pytest.raises(ValueError, match=r"a pickle that names shutil.copy, which was not run"):
        load({"ema": state, "args": Evil(tmp_path)})
    assert not (tmp_path / "ran").exists()
    assert pickle.loads(pickle.dumps(Evil(tmp_path))) and (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04broken"])
def test_a_file_of_something_else_is_one_line(content, load, state, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda _, path: path.write_bytes(content))
    with pytest.raises(ValueError, match=r"^model.checkpoint=0100.pt: cannot be loaded: ") as error:
        load({})
    assert "\n" not in str(error.value)
