"""Every name of the project that the tests of whole runs lean on: where one moves, this is the file to edit."""

from experiments.arms import ArmRunner
from experiments.attributes import compose_run_config
from experiments.config.groups import CONF
from experiments.config.nodes import Choice, build_node
from experiments.progress import Reporter
from experiments.record import arm_record
from experiments.stages.evaluation import Evaluator
from experiments.stages.stages import Stages
from metrics.clipsim import ClipScorer, clip_scores
from metrics.errors import VideoError
from metrics.extractors.loading import load_extractor
from metrics.fidelity import psnr, sqnr, ssim
from metrics.frechet import frechet_distance
from metrics.intervals import paired_bootstrap_interval
from metrics.kernel import kernel_distance
from metrics.lpips import LPIPS, alexnet_features
from metrics.temporal import flicker, neighbour_similarity
from qvd.backends.convert import convert
from qvd.backends.simulated import Simulation
from qvd.calibration.observers import Ranges
from qvd.data.shapes import Shapes
from qvd.options.calibration import CalibrationPlan
from qvd.options.rules import LayerRule
from qvd.spec.quantization import Quantization
from qvd.store.artifacts import Artifact, ArtifactFile, Store
from qvd.store.digest import fingerprint

__all__ = [
    "CONF",
    "LPIPS",
    "ArmRunner",
    "Artifact",
    "ArtifactFile",
    "CalibrationPlan",
    "Choice",
    "ClipScorer",
    "Evaluator",
    "LayerRule",
    "Quantization",
    "Ranges",
    "Reporter",
    "Shapes",
    "Simulation",
    "Stages",
    "Store",
    "VideoError",
    "alexnet_features",
    "arm_record",
    "build_node",
    "clip_scores",
    "compose_run_config",
    "convert",
    "fingerprint",
    "flicker",
    "frechet_distance",
    "kernel_distance",
    "load_extractor",
    "neighbour_similarity",
    "paired_bootstrap_interval",
    "psnr",
    "sqnr",
    "ssim",
]
