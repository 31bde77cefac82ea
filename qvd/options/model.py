"""The import-light choices of a model's config."""

from __future__ import annotations

from enum import Enum


class Init(Enum):
    """`pretrained`, or `random`: the true architecture with random weights, for memory and time, never for quality."""

    pretrained = "pretrained"
    random = "random"


class DType(Enum):
    """Number format of the floating-point weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Offload(Enum):
    """What waits in main memory while a GPU does not need it: `none`, whole parts (`model`), or single layers."""

    none = "none"
    model = "model"
    sequential = "sequential"
