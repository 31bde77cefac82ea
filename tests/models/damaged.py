"""Copies of the embedded models' folders, to be damaged."""

import json
import shutil
from dataclasses import replace
from functools import cache

from safetensors.torch import load_file, save_file

from experiments.attributes import compose_run_config
from qvd.options.hub import MODELS


def copied(model, folder):
    """The adapter of an embedded model in a copy of its folder."""
    shutil.copytree(MODELS / "weights" / model, folder, dirs_exist_ok=True)
    return at(model, folder)


@cache
def adapter_of(*words):
    """The adapter of command-line words."""
    return compose_run_config([*words, "quantizer=fp", "protocol.num_frames=2"]).model


def at(model, folder, **options):
    return replace(adapter_of(f"model={model}"), path=str(folder), embedded=False, **options)


def weights_of(folder):
    """The file of a part's weights."""
    (file,) = folder.glob("*.safetensors")
    return file


def edit_weights(folder, change):
    """Save what `change` makes of a part's state dict."""
    file = weights_of(folder)
    save_file(change(load_file(file)), file, {"format": "pt"})


def edit_json(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def without(state):
    return dict(list(state.items())[:-2])


def renamed(state):
    return {f"{name}_old" if number == 0 else name: t for number, (name, t) in enumerate(state.items())}


def reshaped(state):
    name = next(name for name, tensor in state.items() if tensor.dim() == 2)
    return {**state, name: state[name][:-1].clone()}


def added(state):
    return {**state, "left.over": next(iter(state.values())).clone()}
