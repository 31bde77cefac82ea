"""What depends on each option: the expectations of `test_stage_keys`. A new option has to be declared here."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Stages = frozenset[str]

NOTHING: Stages = frozenset()
METRICS = frozenset({"metrics", "FP metrics"})
REFERENCE = METRICS | {"reference features"}
FEATURES = REFERENCE | {"features", "FP features"}
FP_VIDEOS = METRICS | {"FP samples", "FP features", "samples", "features"}
EVALUATION = FP_VIDEOS | {"sqnr"}  # prompts of the evaluation split
EXECUTION = frozenset({"samples", "sqnr", "features", "metrics"})  # of a quantized denoiser
METHOD = EXECUTION | {"quantization"}
CALIBRATION = METHOD | {"calibration", "ranges"}
DENOISER = CALIBRATION | EVALUATION | {"FP cost"}  # everything but the reference
ALL = DENOISER | REFERENCE

EFFECTS: dict[str, dict[Stages, str]] = {
    "RunConfig": {
        NOTHING: "model_name experiment store workers objective",
        REFERENCE - {"metrics"} | {"FP samples", "FP features"}: "n_videos",
        DENOISER: "seed num_inference_steps",
        ALL: "device",
    },
    "Export": {NOTHING: "videos frames"},
    "Tracking": {NOTHING: "mode project entity"},
    "Arm": {NOTHING: "variant quantizer overrides", frozenset({"samples", "features", "metrics"}): "n_videos"},
    "Bits": {METHOD: "weight activation"},
    "ModelOptions": {
        # Where files lie is nothing, what is in them everything; see `VALUES`.
        NOTHING: "path embedded revision architecture offload",
        FP_VIDEOS: "decode_chunk_size",
        # Of batch_size samples and calibration sets are kept, and num_inference_steps is where the dial looks.
        DENOISER: "num_frames resolution num_inference_steps guidance_scale batch_size init dtype variant "
        "negative_prompt scheduler "
        "disparity asymmetry temporal_skew",
    },
    "AnimateDiffOptions": {NOTHING: "motion_adapter motion_adapter_revision"},
    "ClassLatteOptions": {NOTHING: "vae vae_revision", DENOISER: "classes checkpoint"},
    "PromptFile": {NOTHING: "file videos_per_prompt"},
    "Shapes": {REFERENCE: "resolution num_frames split"},
    "VideoFiles": {NOTHING: "root skip_bad"},
    "UCF101": {ALL: "split fold", NOTHING: "lists"},
    "MSRVTT": {NOTHING: "annotations", EVALUATION: "caption_seed"},
    "FrameFolders": {NOTHING: "name", REFERENCE: "split", DENOISER: "caption"},
    "Protocol": {
        NOTHING: "name n_videos min_videos lpips_weights extractor_weights clip",
        FEATURES: "num_frames resolution resize extractor",
        REFERENCE: "random_start stride seed n_reference",
        EVALUATION | REFERENCE: "choice",
        EVALUATION: "prompts",
    },
    "Protocol of drawn clips": {
        NOTHING: "name n_videos min_videos lpips_weights extractor_weights clip "
        "random_start stride seed choice prompts",
        REFERENCE: "n_reference",
        FEATURES: "num_frames resolution resize extractor",
    },
    "CalibrationPlan": {CALIBRATION: "num_samples num_steps timesteps ndtc_mean"},
    "MethodOptions": {
        NOTHING: "name",
        METHOD: "weight_range activation_range activation_granularity weight_symmetric activation_symmetric "
        "range_candidates range_reduction p_norm bias_correction softmax_bits only rules",
    },
    "LayerRule": {METHOD: "pattern weight_bits activation_bits"},
    "AdaRoundSettings": {
        METHOD: "iterations learning_rate batch_size regularization warmup beta_start beta_end sweeps entries "
        "autocast compile"
    },
    "LsqSettings": {METHOD: "iterations learning_rate batch_size entries"},
    "QVDOptions": {
        METHOD: "variant htdq scri border_correction min_samples tau_candidates capture_rows capture_entries "
        "reconstruction"
    },
    "PTQ4DMOptions": {CALIBRATION: "variant", METHOD: "momentum batch_size seed"},
    "QDiffusionOptions": {METHOD: "reconstruction running_stat momentum batch_size split_shortcuts seed"},
    "TFMQOptions": {METHOD: "temporal_rounding timestep_ranges"},
    "ChannelBalanceOptions": {METHOD: "alpha"},
    "ViDiTQOptions": {METHOD: "float_attention"},
}


def moved(value: str, root: Path) -> str:
    """The same files elsewhere."""
    place = root / "a" / Path(value).name  # before or after where they were, by name
    place.parent.mkdir()
    return str((shutil.copytree if Path(value).is_dir() else shutil.copy)(value, place))


def edited(value: str, root: Path) -> str:
    """Files of the same names with other bytes, which still are what they were: JSON may end in blanks."""
    place = Path(moved(value, root))
    for file in [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]:
        file.write_bytes(file.read_bytes() + b" ")
    return str(place)


def recaptioned(value: str, root: Path) -> str:
    """MSR-VTT's annotations with other captions."""
    content = json.loads(Path(value).read_text())
    for sentence in content["sentences"]:
        sentence["caption"] += " again"
    (root / "other.json").write_text(json.dumps(content))
    return str(root / "other.json")


def reprompted(value: str, root: Path) -> str:
    """A file of other prompts."""
    (root / "other.txt").write_text(Path(value).read_text().replace("a ", "the "))
    return str(root / "other.txt")


def other_lists(value: str, root: Path) -> str:
    """UCF-101's lists, train and test exchanged."""
    shutil.copytree(value, root / "lists")
    for file in Path(value).iterdir():
        renamed = file.name.replace("train", "TEST").replace("test", "train").replace("TEST", "test")
        shutil.copy(file, root / "lists" / renamed)
    return str(root / "lists")


def new(value: None, root: Path) -> str:
    """A folder where there was none."""
    (root / "config.json").write_text("{}")
    return str(root)


def named(name: str) -> Callable[[Any, Path], Any]:
    """The member of an enumeration, or the word."""
    return lambda value, root: type(value)(name)


def place(stages: Stages) -> list[tuple[Callable[[str, Path], str], Stages]]:
    """Only what is in the files counts."""
    return [(moved, NOTHING), (edited, stages)]


# Other values than `candidates` of options.py, each with what it changes.
VALUES: dict[str, list[tuple[Callable[[Any, Path], Any], Stages]]] = {
    "Export.videos": [(named("all"), NOTHING)],
    "Tracking.entity=None": [(lambda value, root: "team", NOTHING)],
    "ModelOptions.path": place(DENOISER),
    "ModelOptions.architecture": place(DENOISER),
    "ModelOptions.architecture=None": [(new, DENOISER)],
    "AnimateDiffOptions.motion_adapter": place(DENOISER),
    "AnimateDiffOptions.motion_adapter=None": [(new, DENOISER)],
    "ClassLatteOptions.vae": place(DENOISER),
    "ClassLatteOptions.checkpoint": [(named("another.pt"), DENOISER)],
    "VideoFiles.root": place(REFERENCE),
    "PromptFile.file": [(moved, NOTHING), (reprompted, DENOISER)],
    "Shapes.split": [(named("train"), REFERENCE)],
    "UCF101.lists": [(moved, NOTHING), (other_lists, ALL)],
    "MSRVTT.annotations": [(moved, NOTHING), (recaptioned, DENOISER)],
    "FrameFolders.split": [(named("b"), REFERENCE)],
    "Protocol.n_reference=None": [(lambda value, root: 4096, REFERENCE)],
    "Protocol.extractor": [(named("videomae"), FEATURES)],
    "Protocol.extractor_weights": place(FEATURES),
    "Protocol.clip": place(METRICS),
    "Protocol.lpips_weights": place(METRICS),
    "Protocol.prompts": [(named("classes"), EVALUATION), (named("shapes"), DENOISER)],
    "Protocol of drawn clips.prompts": [(named("classes"), NOTHING), (named("shapes"), NOTHING)],
    "MethodOptions.rules": [(lambda value, root: [], METHOD)],
}

# Options that, in some class or beside some other option, have one valid value alone.
FIXED = {
    "SmoothQuant.activation_range",
    "ViDiTQ.activation_range",
    "ViDiTQ.range_reduction",  # tokens have their ranges at run time
    "QVD.variant",  # another one lacks what this one has
    "ClassLatteAdapter.checkpoint",
    "ClassLatteAdapter.vae",
    "ClassLatteAdapter.negative_prompt",  # it reads no text
    "Export.frames",  # true needs videos
    "MSRVTT.skip_bad",  # false needs all of the 2990 videos
}
