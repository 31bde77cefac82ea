"""A run's prompts, looked at before anything is drawn for them."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.config.run_config import RunConfig
from experiments.result import CutPrompts
from metrics.clipsim import cut_prompts as cut_by_clip
from qvd.models.texts import cut_prompts


def check_prompts(config: RunConfig) -> tuple[CutPrompts, ...]:
    """What is cut of the run's prompts, those of calibration and the negative one included.

    Raises:
        ValueError: a prompt that the model has no class for.
    """
    reference, arms = config.reference, config.all_arms
    drawn = reference.prompts("evaluation", range(max(arm.n_videos for arm in arms)))
    calibrating = max(arm.options.calibration.num_samples for arm in arms)
    given = list(dict.fromkeys([*drawn, *reference.prompts("calibration", range(calibrating))]))
    config.model.check_prompts(given)
    read = [*given, *([config.model.negative_prompt] if config.model.negative_prompt else [])]
    scored = list(dict.fromkeys(drawn))
    found = [
        CutPrompts("the model's text encoder", *_counted(read, *cut_prompts(config.model, read))),
        CutPrompts("CLIPSIM's text encoder", *_counted(scored, *cut_by_clip(config.protocol.clip, scored))),
    ]
    return tuple(cut for cut in found if cut.prompts)


def _counted(prompts: Sequence[str], limit: int, cut: Sequence[str]) -> tuple[int, int, Sequence[str]]:
    return limit, len(prompts), cut
