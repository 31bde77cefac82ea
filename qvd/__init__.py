"""Post-training quantization of video diffusion models, from Python: the names below, imported when first used.

>>> import qvd
>>> model = qvd.load_model("tiny_modelscope", num_frames=8, num_inference_steps=10, guidance_scale=3.0)
>>> calibration = qvd.calibrate(model, ["a red circle moving left", "a blue square moving up"])
>>> quantization = qvd.quantize(model, calibration, bits="w8a8")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    **dict.fromkeys(("Calibration", "Model", "calibrate", "convert", "load_model", "quantize"), "qvd.api"),
    **dict.fromkeys(("load", "save"), "qvd.spec.files"),
    "Quantization": "qvd.spec.quantization",
    "QVD": "qvd.methods.qvd",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return __all__
