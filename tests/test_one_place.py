"""A method with a grid of its own, a model family, a dataset, a backend and an engine: each one class and one yaml.

(A metric is one declaration: tests/experiments/test_new_metric.py.)
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from experiments import attributes
from experiments.config import groups
from experiments.experiment import run_experiment
from experiments.stages.execution import FallbackWarning

ROOT = Path(__file__).parent.parent
MODULE = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from torch.nn import functional as F

from experiments.engines.base import Engine

from qvd.backends.base import Backend, ExecutedLayer, effective_weight
from qvd.data.base import DrawnClips
from qvd.methods.base import PTQMethod
from qvd.models.modelscope import ModelScope
from qvd.numerics.grids import Grid


@dataclass(frozen=True)
class Thirds(Grid):
    form: ClassVar[str] = "thirds"
    largest: float

    @property
    def num_levels(self):
        return 3

    def codes(self, x):
        return torch.round(x / self.largest).clamp(-1, 1).long() + 1

    def values(self, codes):
        return (codes.double() - 1) * self.largest


@dataclass(frozen=True)
class MyMethod(PTQMethod):
    share: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"quantizer.share={self.share}: must be in (0, 1]")

    def quantize(self, denoiser, ranges, calibration, context):
        from dataclasses import replace

        plain = self.assemble(denoiser, ranges, self.site_bits(denoiser, context), {}, {"share": self.share})
        grid = Thirds(2, self.share * ranges["conv_in"].high)
        layers = {**plain.layers, "conv_in": replace(plain.layers["conv_in"], grid=grid)}
        return replace(plain, layers=layers)


@dataclass(frozen=True)
class MyModel(ModelScope):
    brightness: int = 0

    def sample(self, pipeline, prompts, generators, num_inference_steps):
        videos = super().sample(pipeline, prompts, generators, num_inference_steps)
        return (videos.int() + self.brightness).clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class MyClips(DrawnClips):
    grey: int = 100
    prompts_match_clips: ClassVar[bool] = False

    def prompt(self, index, split="evaluation"):
        return f"a red circle number {index}"

    def describe(self):
        return "my clips"

    def manifest(self):
        return f"grey {self.grey}"

    def frames(self, index):
        return np.random.default_rng(index).integers(0, self.grey, (8, 3, 32, 32), np.uint8)


EXECUTED = []


class MyLinear(ExecutedLayer):
    def __init__(self, layer, spec):
        super().__init__(layer, spec)
        EXECUTED.append(spec.name)
        self.grid = spec.grid
        self.register_buffer("values", effective_weight(layer, spec), persistent=False)

    def forward(self, input):
        x = self.transform(input, -1)
        return F.linear(x if self.grid is None else self.grid(x), self.values, self.bias)


@dataclass(frozen=True)
class MyBackend(Backend):
    name: ClassVar[str] = "mine"
    smallest: int = 0

    def refuses(self, layer, spec):
        if not isinstance(layer, torch.nn.Linear):
            return "only Linear layers"
        return None if layer.out_features >= self.smallest else f"fewer than {self.smallest} outputs"

    def layer(self, layer, spec):
        return MyLinear(layer, spec)


FILLED = []


class MyEngine(Engine):
    def fill(self, config, arms, overrides, reporter):
        FILLED.extend(arm.name for arm in arms)
"""
YAMLS = {
    "quantizer": "_target_: mine.MyMethod\nname: mine\ncalibration: {num_samples: 1, num_steps: 1}\nshare: 0.25\n"
    "weight_range: minmax\nactivation_range: minmax\n",
    "model": "_target_: mine.MyModel\npath: weights/tiny_modelscope\nnum_frames: 8\nresolution: 32\n"
    "num_inference_steps: 2\nguidance_scale: 2.0\nbatch_size: 8\nembedded: true\nbrightness: 3\n",
    "dataset": "_target_: mine.MyClips\ngrey: 90\n",
    "backend": "_target_: mine.MyBackend\nsmallest: 64\n",
    "engine": "_target_: mine.MyEngine\n",
}
WORDS = [
    *(f"{group}=mine" for group in YAMLS),
    "n_videos=8",
    "protocol.min_videos=8",
    "protocol.prompts=captions",
    "trusted=[mine]",
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A conf folder and a module with the additions."""
    shutil.copytree(groups.CONF, tmp_path / "conf")
    for group, text in YAMLS.items():
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(groups, "CONF", tmp_path / "conf")
    yield tmp_path
    sys.modules.pop("mine", None)


def test_the_yaml_of_the_readme_is_enough(home):
    """An option that it leaves out has its default, and is set with Hydra's plus."""
    (yaml,) = re.findall(r"```yaml\n(_target_: .*?)```", (ROOT / "README.md").read_text(), re.S)
    (home / "conf" / "quantizer" / "short.yaml").write_text(yaml.replace("baselines.mymethod", "mine"))
    words = ["quantizer=short", "+quantizer.share=0.3", "trusted=[mine]"]
    (arm,) = attributes.compose_run_config(words).arms
    method = arm.choice.build()
    assert (arm.name, type(method).__name__, method.share) == ("mymethod w8a8", "MyMethod", 0.3)
    with pytest.raises(ValueError, match=r"quantizer\.share=2.0: must be in"):
        attributes.compose_run_config([*words[:1], "+quantizer.share=2", *words[2:]])


def test_additions_of_one_file_and_one_yaml_make_a_whole_run(home):
    words = [*WORDS, f"store={home}/store", "tracking=disabled"]
    config = attributes.compose_run_config(words)
    with pytest.warns(
        FallbackWarning, match=r"backend mine: (\d+) of (\d+) .* simulated: .*only Linear layers \("
    ) as warned:
        run_experiment(config, home / "run", "", words)
    import mine

    arms = json.loads((home / "run" / "metrics.json").read_text())["arms"]
    assert mine.FILLED == list(arms) == ["fp", "mine w8a8"]
    assert arms["mine w8a8"]["reference"] == "my clips" and arms["mine w8a8"]["psnr_fp"] < 60
    assert arms["mine w8a8"]["quantization"] == {"share": 0.25}
    assert {"mid_block.resnets.0.time_emb_proj"} <= set(mine.EXECUTED) and "conv_in" not in mine.EXECUTED
    assert "fewer than 64 outputs (" in str(warned[0].message) and "mine executes no attention (" in str(
        warned[0].message
    )
    keys = [json.loads(file.read_text())["inputs"] for file in (home / "store" / "samples").glob("*.json")]
    backends = {json.dumps(inputs["backend"]) for inputs in keys if inputs["quantization"] is not None}
    assert backends == {'{"name": "mine", "options": {"smallest": 64}}'}
    assert all("backend" not in inputs for inputs in keys if inputs["quantization"] is None)
    assert '"form": "thirds"' in next((home / "store" / "quantization").glob("*.json")).read_text().replace('\\"', '"')


def test_an_additions_own_options_are_checked(home):
    with pytest.raises(ValueError, match=r"quantizer.share=2.0: must be in \(0, 1\]"):
        attributes.compose_run_config([*WORDS, "quantizer.share=2"])
    with pytest.raises(ValueError, match=r"quantizer.shar=1: no such option"):
        attributes.compose_run_config([*WORDS, "+quantizer.shar=1"])
    with pytest.raises(ValueError, match=r"backend.smallest: Value 'tiny'"):
        attributes.compose_run_config([*WORDS, "backend.smallest=tiny"])
