"""The arms of a config: the command line's, or every entry of its experiment once for each of its bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from experiments.config.groups import choices_of, load_choice
from experiments.config.names import checked_name
from experiments.config.nodes import nearest, read_choice, read_integer
from experiments.config.run_config import FP, Arm
from experiments.config.words import option_words
from qvd.options.bits import ALLOWED, FLOATING_POINT, Bits

WHY_MANY = " (what FVD needs under this protocol)"
ARM_KEYS = ("quantizer", "bits", "variant", "options", "n_videos")


@dataclass(frozen=True)
class ArmReader:
    """What all arms of a run share.

    Attributes:
        n_videos: of an arm that names no number.
        min_videos: fewer are refused.
        trusted: packages beside this project's that methods may be of.
    """

    n_videos: int
    min_videos: int
    trusted: tuple[str, ...]

    def read(self, config: DictConfig, quantizer: str) -> tuple[Arm, ...]:
        """The command line's arm, whose method is `quantizer`, or those of the experiment.

        Raises:
            ValueError: one line that names the entry, the value and what is allowed.
        """
        Bits.parse(str(config.bits))  # also where the experiment has bits of its own: they name the run's folder
        entries = config.experiment.arms
        if entries is None or entries == [] or entries == {}:
            return (self._arm(quantizer, config.quantizer, config.bits, self.n_videos, {}),)
        if not OmegaConf.is_list(entries):
            raise ValueError(f"experiment.arms={entries}: must be a list of {{quantizer: …, bits: …}}")
        arms: list[Arm] = []
        for number, entry in enumerate(entries):
            for arm in self._arms_of_entry(entry, f"experiment.arms[{number}]"):
                if arm.name in {other.name for other in arms}:
                    raise ValueError(f"experiment.arms[{number}]: a second arm called {arm.name}; give it a variant")
                arms.append(arm)
        return tuple(arms)

    def _arms_of_entry(self, entry: Any, where: str) -> list[Arm]:
        """An entry of an experiment, once for each of its bits."""
        if not OmegaConf.is_dict(entry):
            raise ValueError(f"{where}={entry}: must be a mapping such as {{quantizer: naive, bits: w8a8}}")
        for key in entry:
            if key not in ARM_KEYS:
                raise ValueError(f"{where}.{key}: {nearest(str(key), list(ARM_KEYS))}")
        options = entry.get("options", {})
        if not OmegaConf.is_dict(options) and options != {}:
            raise ValueError(f"{where}.options={options}: must be a mapping, as in conf/quantizer")
        own = "n_videos" in entry
        count = read_n_videos(entry, self.min_videos, f"{where}.") if own else self.n_videos
        quantizer, allowed = entry.get("quantizer"), choices_of("quantizer")
        if quantizer not in allowed:
            raise ValueError(f"{where}.quantizer={quantizer}: {nearest(str(quantizer), allowed)}")
        variant, bits = entry.get("variant"), entry.get("bits")
        if variant is not None:
            variant = checked_name(variant, f"{where}.variant")
        if not bits:
            raise ValueError(f"{where}.bits={bits}: allowed are {ALLOWED}, or a list of such")
        node = load_choice("quantizer", quantizer)
        each = bits if OmegaConf.is_list(bits) else [bits]
        arms = [self._arm(quantizer, node, b, count, options, variant) for b in each]
        return [replace(arm, overrides=(*arm.overrides, f"n_videos={count}")) if own else arm for arm in arms]

    def _arm(
        self,
        name: str,
        node: DictConfig,
        bits: str,
        n_videos: int,
        options: DictConfig | dict[str, Any],
        variant: str | None = None,
    ) -> Arm:
        parsed = Bits.parse(str(bits))
        choice = read_choice(cast(DictConfig, OmegaConf.merge(node, options)), "quantizer", self.trusted)
        if name == FP or parsed.is_float:  # either word alone asks for the FP model, whatever the method is told
            name, choice, parsed = FP, read_choice(load_choice("quantizer", FP), "quantizer"), FLOATING_POINT
        words = (f"quantizer={name}", f"bits={parsed}", *option_words(options, "quantizer"))
        called = variant or checked_name(choice.options.name, "quantizer.name")
        return Arm(called, checked_name(name, "quantizer"), choice, parsed, n_videos, words)


def read_n_videos(config: DictConfig, fewest: int, where: str = "") -> int:
    """How many videos a run or an entry asks for."""
    return read_integer(config, "n_videos", fewest, WHY_MANY if fewest > 1 else "", where)
