"""Bad values for every option that there is, and what becomes of them."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import get_args, get_type_hints

from omegaconf import OmegaConf

from experiments.attributes import compose_run_config
from experiments.config.groups import KINDS, choices_of, load_choice, load_main
from experiments.config.trust import find_class
from metrics.errors import BAD

VALUES = {
    **{text: text for text in ("nan", "inf", "-inf", "-1", "0", "1", "1.5", "1e30", "-1e30", "1e-30", "''", "x")},
    **{text: text for text in ("[]", "{}", "[1]", "[{}]", "{a:1}", "null", "true", "'???'", "run.py")},
    "10**30": str(10**30),
    "10**5000": "1" + "0" * 5000,
    "5,000 letters": "x" * 5000,
    "300 letters": "x" * 300,
    "a path of 5,000 letters": "/x" * 2500,
    "NUL": "'a\0b'",
    "a control": "'a\x1bb'",
    "an interpolation to nowhere": "${nothing}",
    "a cycle": "${experiment}",
    "half a letter": "'\ud800'",
    "foreign letters": "'größe ☃'",
    "a number as text": "'7'",
}
LONGEST = 600  # letters of a line that one can still read


@dataclass(frozen=True)
class Case:
    """One option given one value.

    Attributes:
        base: words that choose the config that has the option.
        key: its name.
        value: a key of `VALUES`.
        around: what stands before and after the value in the word, where the option is inside a list.
    """

    base: tuple[str, ...]
    key: str
    value: str
    around: tuple[str, str] = ("", "")

    @property
    def word(self) -> str:
        if not self.around[0]:
            return f"{self.key}={VALUES[self.value]}"
        return f"{self.around[0]}{VALUES[self.value]}{self.around[1]}"


def options_of(cls: type, where: str) -> Iterator[tuple[str, type, tuple[str, str]]]:
    """Every field of a dataclass, and of those inside it: name, the class that has it, and `Case.around`."""
    declared = get_type_hints(cls)
    for option in fields(cls):
        kind = declared[option.name]
        yield f"{where}.{option.name}", cls, ("", "")
        if is_dataclass(kind):
            yield from options_of(kind, f"{where}.{option.name}")
        for inner in filter(is_dataclass, get_args(kind)):
            for name in (field.name for field in fields(inner)):
                others = [field.name for field in fields(inner) if field.name != name]
                rest = "".join(f", {other}: {'x' if other == 'pattern' else 'null'}" for other in others)
                yield f"{where}.{option.name}.{name}", inner, (f"{where}.{option.name}=[{{{name}: ", f"{rest}}}]")


def cases(dataset_words: dict[str, list[str]]) -> list[Case]:
    """Every option of conf/, each once, with every bad value.

    Args:
        dataset_words: by dataset, what it needs to be valid.
    """
    found: dict[tuple[type | str, str], Case] = {}
    for where in KINDS:
        for choice in choices_of(where) or [""]:
            node = load_choice(where, choice) if choice else load_main()[0][where]
            cls = find_class(node.get("_options_", node._target_), where)
            base = (f"{where}={choice}",) if choice else ()
            if where == "model" and not choice.startswith("tiny_"):
                base = (*base, "model.init=random")
            if where == "protocol":
                base = (*base, "model.num_frames=16")
            base = (*base, *dataset_words.get(choice, []))
            for key, owner, around in options_of(cls, where):
                found.setdefault((owner, key), Case(base, key, "", around))
    for key in load_main()[0]:
        if key not in KINDS:
            found[(key, key)] = Case((), key, "")
    for key in ("experiment.name", "experiment.arms", "experiment"):
        found[(key, key)] = Case((), key, "")
    arm = {"quantizer": "naive", "bits": "w8a8", "variant": "a", "options": "{}", "n_videos": "70"}
    for key in (*arm, "other"):
        rest = "".join(f", {name}: {value}" for name, value in arm.items() if name != key)
        found[(key, "arm")] = Case((), f"arms[0].{key}", "", (f"experiment.arms=[{{{key}: ", f"{rest}}}]"))
    return [Case(case.base, case.key, value, case.around) for case in found.values() for value in VALUES]


def outcome(case: Case) -> tuple[str, str]:
    """`refused`, `accepted` or `wrong`, and what was said; accepted is what makes a whole run's objects."""
    try:
        run = compose_run_config([*case.base, case.word])
        for arm in run.all_arms:
            assert arm.method is not None
        assert None not in (run.model, run.backend, run.engine, run.reference.count)
        pickle.dumps(run)  # as workers get it
    except BAD as error:
        said = str(error)
        last = case.key.rpartition(".")[2].partition("[")[0]
        if "\n" in said or len(said) > LONGEST or last not in said:
            return "wrong", f"{type(error).__name__}: {said}"
        return "refused", said
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {error}"
    return "accepted", str(OmegaConf.to_yaml({"word": case.word[:80]}))
