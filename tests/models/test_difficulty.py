"""The dial changes channel ranges as asked and the function not at all, on every architecture."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from qvd.graph.hooks import layer_inputs_to
from qvd.graph.sites import channel_dim, weighted_layers
from qvd.models.difficulty import ChannelGain, normal_scores, raise_disparity_, skew_temporal_features_
from qvd.models.loading import load
from qvd.models.sampling import sample_batch
from qvd.options.model import DType, Offload
from tests.architectures import ARCHITECTURES, SIZES, build
from tests.models.conftest import FAMILIES

# Shrinking a whole network takes minutes.
FEW = settings(max_examples=settings.default.max_examples // 10, phases=[Phase.generate])
SMALL = {"width": 16, "heads": 2, "frames": 3, "text": 8}
TEMPORAL = ("time_emb_proj", "adaln_single.linear", "adaLN_modulation.1")
# What the dial must reach, by the end of the readers' names: sites of the issue that the architecture has.
READERS = {
    "unet3d": ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in"),
    "unet_motion": ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in"),
    "latte": ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj"),
    "class_latte": ("attn.qkv", "attn.proj", "mlp.fc1"),
}


def relative_difference(a, b):
    return ((a - b).norm() / b.norm()).item()


@torch.no_grad()
def channel_inputs(model, example, names):
    """Input of each named layer as (elements, channels)."""
    layers, seen = weighted_layers(model), {}
    sinks = {n: lambda x, n=n: seen.__setitem__(n, x.movedim(channel_dim(layers[n]), -1).flatten(0, -2)) for n in names}
    with layer_inputs_to(model, sinks):
        model(**example)
    return seen


def disparity_of(x):
    width = x.amax(0) - x.amin(0)
    return (width.max() / width.median()).item()


def offset_of(before, after):
    """Median over channels of how far the centre moved, in half-ranges."""
    centres = [x.amax(0) + x.amin(0) for x in (before, after)]
    return ((centres[1] - centres[0]).abs() / (before.amax(0) - before.amin(0))).median().item()


def temporal_sites(model):
    return [name for name in weighted_layers(model) if name.endswith(TEMPORAL)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(
    max_examples=settings.default.max_examples // 10, phases=[Phase.generate]
)  # shrinking a whole network takes minutes
@given(sizes=SIZES, disparity=st.floats(1.5, 100), asymmetry=st.floats(0, 3), skew=st.floats(0.1, 2))
@torch.no_grad()
def test_function_is_kept(architecture, sizes, disparity, asymmetry, skew):
    model, example = build(architecture, **sizes)
    reference = model(**example).sample
    names = temporal_sites(model)
    seen = channel_inputs(model, example, names)
    before = [p.clone() for p in model.parameters()]
    raise_disparity_(model, example, disparity, asymmetry)
    skew_temporal_features_(model, seen, skew)
    assert sum(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)) > 10
    assert relative_difference(model(**example).sample, reference) <= 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_disparity_rises_as_asked(architecture):
    model, example = build(architecture, **SMALL)
    dialled = copy.deepcopy(model)
    paths = raise_disparity_(dialled, example, 8.0)
    names = [name for path in paths for name in path.readers]
    assert all(any(n.endswith(end) for n in names) for end in READERS[architecture])
    before, after = (channel_inputs(m, example, names) for m in (model, dialled))
    for path in paths:
        for name in path.readers:
            rise = disparity_of(after[name]) / disparity_of(before[name])
            # Blocks that share one modulation have one gain for all, though their channels differ.
            low, high = (2, 16) if path.name.startswith("adaln_single") else (6.5, 9.5)
            assert low < rise < high, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_asymmetry_rises_where_biases_allow_it(architecture):
    model, example = build(architecture, **SMALL)
    dialled = copy.deepcopy(model)
    paths = raise_disparity_(dialled, example, 1.0, asymmetry=3.0)
    layers = weighted_layers(model)
    allowed = [p for p in paths if p.offset is not None and all(layers[n].bias is not None for n in p.readers)]
    names = [name for path in paths for name in path.readers]
    before, after = (channel_inputs(m, example, names) for m in (model, dialled))
    assert allowed
    for path in paths:
        for name in path.readers:
            offset = offset_of(before[name], after[name])
            # As above, blocks that share one modulation also share the offsets.
            tolerance = 2 if path.name.startswith("adaln_single") else 0.01
            assert offset == pytest.approx(3.0 if path in allowed else 0.0, abs=tolerance), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_every_other_layer_sees_what_it_saw(architecture):
    model, example = build(architecture, **SMALL)
    dialled = copy.deepcopy(model)
    touched = {name for path in raise_disparity_(dialled, example, 8.0, 1.0) for name in path.readers}
    names = set(weighted_layers(model)) - touched
    before, after = (channel_inputs(m, example, names) for m in (model, dialled))
    assert all(relative_difference(after[n], before[n]) < 1e-4 for n in names)


def test_the_dial_is_deterministic():
    models = [build("unet3d", **SMALL) for _ in range(2)]
    for model, example in models:
        raise_disparity_(model, example, 8.0, 1.0)
    pairs = zip(models[0][0].parameters(), models[1][0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_normal_scores_keep_the_order_and_are_centred():
    scores = normal_scores(torch.tensor([5.0, -1.0, 2.0]))
    assert scores.argsort().tolist() == [1, 2, 0]
    assert scores[2] == 0 and scores[0] == -scores[1]


SHIPPED = sorted(path.stem for path in (CONF / "model").glob("tiny_*.yaml"))
PROMPT = "a red circle moving left on a plain background"


@pytest.fixture(scope="module", params=[*FAMILIES, *(pytest.param(name, marks=pytest.mark.full) for name in SHIPPED)])
def adapter(request, random_adapter):
    if request.param in FAMILIES:
        return random_adapter(request.param)
    return compose_run_config([f"model={request.param}"]).model


@torch.no_grad()
def test_every_family_keeps_its_samples_and_reports_the_dialled_features(adapter):
    dialled = replace(adapter, disparity=30.0, asymmetry=1.0, temporal_skew=1.5)
    pipelines = [load(a, "cpu", PROMPT) for a in (adapter, dialled)]
    networks = [adapter.denoiser(pipeline) for pipeline in pipelines]
    plain, features = (adapter.temporal_features(n, adapter.timesteps(pipelines[1], 2)) for n in networks)
    seen = {name: [] for name in features}
    with layer_inputs_to(networks[1], {n: lambda x, n=n: seen[n].append(x.flatten(0, -2)[0]) for n in seen}):
        hard = sample(dialled, pipelines[1])
    assert (sample(adapter, pipelines[0]).int() - hard.int()).abs().max() <= 1
    for name, listed in features.items():
        # A class-conditional family lists the features of several classes.
        for feature in seen[name]:
            assert (listed - feature).norm(dim=1).min() <= 1e-4 * feature.norm()
        assert skewness(listed) > 1.2 * skewness(plain[name])
    gains = [module.gain for module in networks[1].modules() if isinstance(module, ChannelGain)]
    assert gains and all(gain.log().std().item() == pytest.approx(1.5, abs=0.15) for gain in gains)


def sample(adapter, pipeline):
    return sample_batch(adapter, pipeline, [PROMPT], range(1), seed=0, split="evaluation", num_inference_steps=2)


def skewness(x):
    centred = x.double() - x.double().mean()
    return (centred.pow(3).mean() / centred.square().mean() ** 1.5).item()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"disparity": 0.5}, "model.disparity=0.5"),
        ({"asymmetry": -1.0}, "model.asymmetry=-1.0"),
        ({"temporal_skew": float("nan")}, "model.temporal_skew=nan"),
        ({"disparity": 2.0, "dtype": DType.bfloat16}, "model.dtype=bfloat16"),
        ({"temporal_skew": 1.0, "offload": Offload.sequential}, "model.offload=sequential"),
    ],
)
def test_settings_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(compose_run_config(["model=tiny_modelscope"]).model, **fields)
