"""Where the code of each stage starts: the modules that the store follows from there make a stage's results old.

A stage names what computes its own results; what earlier stages have made is in their keys, with their code.
"""

from __future__ import annotations

from metrics.extractors.base import VideoExtractor
from metrics.registry import catalogue_modules
from qvd.backends.base import Backend
from qvd.data.base import VideoDataset
from qvd.methods.base import PTQMethod
from qvd.models.base import ModelAdapter

RANGES = ("qvd.calibration.observe",)
FP_COST = ("qvd.graph.cost",)
_DRAWING = ("figures", "curve_figures", "comparison_figure", "qvd_figures")
FIGURES = tuple(f"experiments.report.{module}" for module in _DRAWING)


def sampling(model: ModelAdapter, backend: Backend | None) -> tuple[str, ...]:
    """Of a denoiser that a backend executes, or of the FP model (None), whose samples depend on no quantizer."""
    return (*_model(model), *(() if backend is None else ("qvd.backends.convert", type(backend).__module__)))


def sqnr(model: ModelAdapter, backend: Backend) -> tuple[str, ...]:
    return (*sampling(model, backend), "qvd.graph.trajectory", "metrics.fidelity")


def calibration(model: ModelAdapter) -> tuple[str, ...]:
    return (*_model(model), "qvd.calibration.capture")


def quantization(method: PTQMethod, model: ModelAdapter) -> tuple[str, ...]:
    """Another method's change is none of its; the model says which layers are special, and what temporal ones read."""
    return (type(method).__module__, type(model).__module__, "qvd.graph.cost")


def features(extractor: VideoExtractor) -> tuple[str, ...]:
    return (type(extractor).__module__, "metrics.extractors.base", "metrics.videos")


def reference_features(extractor: VideoExtractor, dataset: VideoDataset) -> tuple[str, ...]:
    return (*features(extractor), "experiments.config.reference", type(dataset).__module__)


def metrics() -> tuple[str, ...]:
    """Every declaration, and what drives them."""
    return ("metrics.measure", *catalogue_modules())


def _model(model: ModelAdapter) -> tuple[str, ...]:
    dial = ("qvd.models.difficulty",) if model.dialled else ()
    return (type(model).__module__, "qvd.models.sampling", "qvd.models.placement", *dial)
