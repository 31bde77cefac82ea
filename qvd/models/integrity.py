"""Is a weights folder what it claims to be? Its index is compared with the family's pipeline before weights are read,
the weights with the network afterwards. Nothing here imports or runs what a folder names."""

from __future__ import annotations

import inspect
import pickle
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import diffusers
from torch import nn

from metrics.files.weights import CODE_KEYS, counted, library_reason
from qvd.options.hub import read_json

INDEX = "model_index.json"
CONFIGS = (INDEX, "config.json", "tokenizer_config.json", "scheduler_config.json")
MAX_TRAIN_TIMESTEPS = 100_000  # schedulers hold tables of that length


@dataclass(frozen=True)
class Part:
    """A part of a pipeline of which nothing has been read yet.

    Attributes:
        cls: what it is loaded as.
        folder: of its config and weights.
        where: what messages call it, such as `model.path=FOLDER: unet`.
    """

    cls: Any
    folder: Path
    where: str

    @property
    def has_weights(self) -> bool:
        return issubclass(self.cls, nn.Module)

    def check(self) -> None:
        """Refuse what shows without reading weights.

        Raises:
            FileNotFoundError: no folder, or no config in it.
            ValueError: a config that is damaged, or that of a network which is quantized already.
        """
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.where}: the folder {self.folder} is missing")
        if self.has_weights and read_json(self.folder / "config.json").get("quantization_config"):
            raise ValueError(f"{self.where}: its weights are quantized already (quantization_config in config.json)")


def index_parts(pipeline_class: Any, folder: Path, where: str, given: Collection[str] = ()) -> dict[str, Part]:
    """The parts of a folder's pipeline that sampling from text needs, by name.

    Args:
        pipeline_class: the family's; its constructor's annotations say which classes a part may have.
        folder: in the hub's layout.
        where: the config key and its value, for messages.
        given: parts that come from elsewhere.

    Raises:
        FileNotFoundError: no index, or no folder of a part that it names.
        ValueError: a part that is null, missing, or of another class than the family's.
    """
    index = read_json(folder / INDEX)
    _warn_of_extras(index, pipeline_class, where)
    allowed = {name: classes for name, classes in part_classes(pipeline_class).items() if name not in given}
    parts = {name: index_part(name, classes, index, folder, where) for name, classes in allowed.items()}
    _warn_of_code(folder, parts.values(), where)
    return parts


def index_part(name: str, allowed: Collection[Any], index: Mapping[str, Any], folder: Path, where: str) -> Part:
    """One part of `index_parts`; raises as it does."""
    entry = index.get(name)
    names = " or ".join(cls.__name__ for cls in allowed) or "a scheduler of diffusers"
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ValueError(f"{where}: {name} is {_shown(entry)} in {INDEX}; this family needs {names}")
    cls = _scheduler_class(entry) if name == "scheduler" else _class_among(entry, allowed)
    if cls is None:
        pipeline = _shown(index.get("_class_name"))
        raise ValueError(f"{where}: {INDEX} is of {pipeline}, its {name} is {'.'.join(entry)}; allowed is {names}")
    part = Part(cls, folder / name, f"{where}: {name}")
    part.check()
    return part


def part_classes(pipeline_class: Any) -> dict[str, tuple[Any, ...]]:
    """Part → the classes that it may have; what text needs alone (schedulers: any)."""
    hints = get_type_hints(pipeline_class.__init__)
    optional = {*pipeline_class._optional_components} - {"text_encoder", "tokenizer"}
    names = [name for name in inspect.signature(pipeline_class.__init__).parameters if name != "self"]
    return {
        name: () if name == "scheduler" else get_args(hints[name]) or (hints[name],)
        for name in names
        if name not in optional
    }


def _class_among(entry: list[str], allowed: Collection[Any]) -> Any:
    """The allowed class that an index entry names; a tokenizer's two implementations are one. None: none of them."""
    library, name = entry[0].partition(".")[0], entry[1].removesuffix("Fast")
    return next((cls for cls in allowed if (cls.__module__.partition(".")[0], cls.__name__) == (library, name)), None)


def _scheduler_class(entry: list[str]) -> Any:
    return scheduler_class(entry[1]) if entry[0] == "diffusers" else None


def scheduler_class(name: str) -> Any:
    """diffusers' scheduler of that name; None where it has none."""
    cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    return cls if inspect.isclass(cls) and issubclass(cls, diffusers.SchedulerMixin) else None


def load_scheduler(cls: Any, folder: Path, where: str) -> Any:
    """A scheduler from its config.

    Raises:
        ValueError: a config that no scheduler can be made of, or one longer than `MAX_TRAIN_TIMESTEPS`.
    """
    config = read_json(folder / "scheduler_config.json")
    steps = config.get("num_train_timesteps", 1)
    if not isinstance(steps, int) or not 1 <= steps <= MAX_TRAIN_TIMESTEPS:
        raise ValueError(f"{where}: num_train_timesteps={steps}: must be an integer in 1..{MAX_TRAIN_TIMESTEPS}")
    with reading(where):
        return cls.from_config(config)


def _warn_of_extras(index: Mapping[str, Any], pipeline_class: Any, where: str) -> None:
    """Say which parts are left alone: those that neither the family's pipeline nor the folder's own has."""
    named = index.get("_class_name")
    of_folder = getattr(diffusers, named, None) if isinstance(named, str) and named.endswith("Pipeline") else None
    known = {name for cls in (pipeline_class, of_folder) if cls for name in inspect.signature(cls.__init__).parameters}
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and not name.startswith("_")}
    extras = [f"{name} ({_shown(entry)})" for name, entry in parts.items() if name not in known]
    if extras:
        warnings.warn(
            f"{where}: left alone, since no pipeline of this family has it: {', '.join(extras)}", stacklevel=3
        )


def _warn_of_code(folder: Path, parts: Iterable[Part], where: str) -> None:
    """Say what code a folder names that would have to be run to load it as its author meant it."""
    found = []
    for place in (folder, *(part.folder for part in parts)):
        for file in (place / name for name in CONFIGS if (place / name).is_file()):
            content = read_json(file)
            found += [f"{key} in {file.relative_to(folder)}" for key in CODE_KEYS if content.get(key)]
            if isinstance(content.get("_class_name"), list):
                found.append(f"_class_name {_shown(content['_class_name'])} in {file.relative_to(folder)}")
    if found:
        warnings.warn(f"{where}: names code of its own, which is never run: {', '.join(found)}", stacklevel=3)


def _shown(entry: Any) -> str:
    """An index entry as people read it."""
    if entry is None or entry == [None, None]:
        return "null"
    return ".".join("null" if word is None else str(word) for word in entry) if isinstance(entry, list) else str(entry)


def check_loading(info: Mapping[str, Any], cls: Any, where: str) -> None:
    """Refuse a network with weights that are not those of its file.

    Args:
        info: what `from_pretrained(output_loading_info=True)` says.
        cls: the network's class. One of transformers may leave weights of its file unused (text encoders are saved with
            heads); that is a warning.

    Raises:
        ValueError: how many weights are missing, of another shape, or without a place, and the first of each.
    """
    missing = counted("missing", info["missing_keys"])
    shapes = counted("of another shape", (_mismatch(*found) for found in info["mismatched_keys"]))
    unused = counted(f"unknown to {cls.__name__}", info["unexpected_keys"])
    wrong = [*missing, *shapes]
    if wrong or (unused and issubclass(cls, diffusers.ModelMixin)):
        raise ValueError(f"{where}: its weights do not fit {cls.__name__}: {'; '.join([*wrong, *unused])}")
    if unused:
        warnings.warn(f"{where}: weights that are not used: {unused[0]}", stacklevel=3)


def _mismatch(key: str, found: Iterable[int], expected: Iterable[int]) -> str:
    shapes = ["×".join(map(str, shape)) or "a scalar" for shape in (found, expected)]
    return f"{key} {shapes[0]} instead of {shapes[1]}"


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Whatever a library raises over a file that it is given becomes one line that names the part.

    Raises:
        ValueError: in the place of any exception.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{where}: cannot be loaded: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """A library's message, without advice to trust the file."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, pickle.UnpicklingError):
            name = re.search(r"GLOBAL (\S+)", str(chain))
            return f"a pickle that names {name[1]}, which was not run" if name else "a file that holds no weights"
        chain = chain.__cause__ or chain.__context__
    return library_reason(error)
