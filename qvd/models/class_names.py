"""From a prompt to the class of a class-conditional model."""

from __future__ import annotations

from qvd.data.shapes import COLOURS, MOTIONS, SHAPES
from qvd.data.ucf101_sentences import SENTENCES
from qvd.options.model import Classes


def class_names(classes: Classes) -> list[str]:
    """What a prompt says for each class index.

    `shapes`: colour, shape and motion, in the order of shape, colour, motion. `ucf101`: the classes' sentences, in the
    order of the classes' names, as the released checkpoint was trained.
    """
    if classes is Classes.shapes:
        return [f"{colour} {shape} {motion}" for shape in SHAPES for colour in COLOURS for motion in MOTIONS]
    return [SENTENCES[name] for name in sorted(SENTENCES)] if classes is Classes.ucf101 else []


def class_label(prompt: str, names: list[str]) -> int:
    """The class whose name the prompt contains; of several the longest.

    Raises:
        ValueError: the prompt names no class.
    """
    found = [label for label, name in enumerate(names) if name in prompt]
    if not found:
        raise ValueError(f"prompt {prompt!r} names none of the model's {len(names)} classes, such as {names[0]!r}")
    return max(found, key=lambda label: len(names[label]))
