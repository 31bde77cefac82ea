"""Every kind of choice in conf/ as a config of a run, on small files that are never opened as what they seem."""

import json
from dataclasses import replace
from functools import cached_property
from itertools import count

from hydra.utils import get_class
from omegaconf import OmegaConf

from tests.end_to_end.names import CONF, Choice, LayerRule, build_node, compose_run_config

GROUPS = ("model", "dataset", "protocol", "quantizer", "backend")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
CHOICES.remove(("quantizer", "fp"))  # has no stages of its own


def kind(choice):
    """The class, and which of its options have a value."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / choice[0] / f"{choice[1]}.yaml"), resolve=False)
    return node["_target_"], frozenset(key for key, value in node.items() if value is not None)


KINDS = list({kind(choice): choice for choice in CHOICES}.values())
N_VIDEOS, STEPS = 9, 4


def write_files(root):
    """Models, datasets and weights of a few bytes, no two alike."""
    numbers = count()

    def write(*names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{{}} {next(numbers)}")

    checkpoints = [OmegaConf.load(path).get("checkpoint") for path in (CONF / "model").glob("*.yaml")]
    write(*(f"model/{name}" for name in {"model_index.json", "another.pt", *filter(None, checkpoints)}))
    write("model/unet/config.json", "part/config.json", "part/diffusion.safetensors", "clip/config.json", "weights.pt")
    classes = ("ApplyLipstick", "Bowling", "YoYo")
    write(*(f"classes/{name}/v_{name}_g{number:02}_c01.avi" for name in classes for number in range(10)))
    write(*(f"frames/{split}/clip/{number}.png" for split in "ab" for number in range(20)))
    write(*(f"msrvtt/video{number}.mp4" for number in range(7010, 7022)))
    captions = [{"video_id": f"video{n}", "caption": f"{n} {i}"} for n in range(7009, 7022) for i in range(20)]
    (root / "captions.json").write_text(json.dumps({"sentences": captions}))
    (root / "prompts.txt").write_text("a cat\na dog\n")
    (root / "lists").mkdir()
    for fold, tested in enumerate(classes, 1):
        for split, listed in (("test", {tested}), ("train", {*classes} - {tested})):
            paths = (path for name in sorted(listed) for path in (root / "classes" / name).iterdir())
            lines = "".join(f"{path.parent.name}/{path.name}\n" for path in paths)
            (root / "lists" / f"{split}list{fold:02}.txt").write_text(lines)


def as_choice(where, built):
    """As a yaml of that key would have chosen it."""
    return Choice(where, f"{type(built).__module__}.{type(built).__qualname__}", built, ("tests",))


def with_model(config, adapter):
    return replace(config, model_choice=as_choice("model", adapter))


def with_method(config, method):
    return replace(config, arms=(replace(config.arms[0], choice=as_choice("quantizer", method)),))


def with_backend(config, backend):
    return replace(config, backend_choice=as_choice("backend", backend))


def _by_caption(protocol):
    return replace(protocol, prompts=type(protocol.prompts)("captions"), choice=type(protocol.choice)("first"))


class Choices:
    """The configs, over files in a folder of their own."""

    def __init__(self, files):
        write_files(files)
        self.files = files

    def config(self, group, choice):
        """The plain run with a choice of conf/."""
        node = OmegaConf.load(CONF / group / f"{choice}.yaml")
        return {
            "model": self._model,
            "dataset": self._dataset,
            "protocol": self._protocol,
            "quantizer": self._quantizer,
            "backend": self._backend,
        }[group](node)

    @cached_property
    def plain(self):
        """The default run, on few videos and steps."""
        run = compose_run_config(["n_videos=65", f"num_inference_steps={STEPS}", "quantizer.calibration.num_steps=2"])
        arm = replace(run.arms[0], n_videos=N_VIDEOS)
        return replace(
            run, n_videos=N_VIDEOS, arms=(arm,), protocol=replace(run.protocol, clip=str(self.files / "clip"))
        )

    def _model(self, node):
        adapter = build_node(node, "model")
        # The dial of difficulty turns float32 alone.
        adapter = replace(adapter, path=str(self.files / "model"), dtype=type(adapter.dtype)("float32"))
        if adapter.architecture is not None:
            adapter = replace(adapter, architecture=str(adapter.config_folder()))
        placed = {name: str(self.files / "part") for name in ("motion_adapter", "vae") if getattr(adapter, name, None)}
        return with_model(self.plain, replace(adapter, **placed))

    def _dataset(self, node):
        cls = get_class(node["_target_"])
        special = {
            "Shapes": {},
            "VideoFolder": {"root": "classes"},
            "UCF101": {"root": "classes", "lists": str(self.files / "lists"), "split": "test", "fold": 2},
            "MSRVTT": {"root": "msrvtt", "annotations": str(self.files / "captions.json"), "skip_bad": True},
            "PromptFile": {"file": str(self.files / "prompts.txt")},
            "FrameFolders": {"root": "frames", "split": "a", "caption": "clouds"},
        }[cls.__name__]
        if "root" in special:
            special["root"] = str(self.files / special["root"])
        built = build_node(OmegaConf.create({"_target_": node["_target_"], **special}), "dataset")
        return replace(self.plain, dataset=built, protocol=_by_caption(self.plain.protocol))

    def _protocol(self, node):
        weights = {"extractor_weights": str(self.files / "weights.pt"), "lpips_weights": str(self.files / "weights.pt")}
        built = replace(
            _by_caption(build_node(node, "protocol")), clip=str(self.files / "clip"), random_start=False, **weights
        )
        return replace(
            self._dataset({"_target_": OmegaConf.load(CONF / "dataset/folder.yaml")["_target_"]}), protocol=built
        )

    def _quantizer(self, node):
        method = build_node(node, "quantizer")
        options = {"calibration": replace(method.calibration, num_samples=N_VIDEOS, num_steps=2)}
        if hasattr(method, "lsq"):  # beside it there is one activation_granularity alone
            options["lsq"] = replace(method.lsq, iterations=0)
        method = replace(method, rules=[LayerRule("*", 8, 8)], **options)
        return with_method(self.plain, method)

    def _backend(self, node):
        return with_backend(self.plain, build_node(node, "backend"))
