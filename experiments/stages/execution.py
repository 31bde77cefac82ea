"""How a run executes its quantized denoisers: on the config's backend, as part of the keys of what they compute."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from qvd.backends.base import Backend
from qvd.backends.convert import Placement, convert, placements
from qvd.spec.quantization import Quantization
from qvd.store.artifacts import Artifact


class FallbackWarning(UserWarning):
    """The backend refused a part of a quantization, which is simulated."""


def execution_inputs(quantized: Artifact | None, backend: Backend) -> dict[str, Any]:
    """What a denoiser's predictions depend on beside model and arguments; the FP model's on no backend."""
    if quantized is None:
        return {"quantization": None}
    return {"quantization": quantized.key, "backend": {"name": backend.name, "options": asdict(backend)}}


def executed(denoiser: nn.Module, quantized: Artifact, backend: Backend) -> nn.Module:
    """The quantized denoiser on the backend; a warning says how much of it that refused, and why."""
    model = convert(denoiser, Quantization.from_tensors(quantized.tensors, quantized.metadata), backend)
    if refused := refusals(placements(model)):
        warnings.warn(f"backend {backend.name}: {refused}", FallbackWarning, stacklevel=2)
    return model


def refusals(placed: Sequence[Placement]) -> str:
    """How many layers and attentions are simulated for each reason, most frequent first; "" where none is."""
    reasons = Counter(placement.reason for placement in placed if placement.reason is not None)
    if not reasons:
        return ""
    counts = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return f"{reasons.total()} of {len(placed)} layers and attentions are simulated: {counts}"
