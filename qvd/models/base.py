"""What a model family must tell the framework: its pipeline, its denoiser and the special layers in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qvd.models.options import DType, Init, Offload

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

    from qvd.quant.reconstruction.settings import Reconstruction


@dataclass(frozen=True)
class BoundaryLayers:
    """Layers that quantization methods treat apart, by module name.

    Attributes:
        first: layers that read the noisy latents.
        last: layers that write the prediction.
        embedders: layers that embed the timestep once for the whole network.
    """

    first: list[str]
    last: list[str]
    embedders: list[str]


@dataclass(frozen=True)
class ModelAdapter(ABC):
    """A diffusers text-to-video pipeline with a denoiser to quantize.

    Attributes:
        path: folder in the hub's layout, or a hub id.
        num_frames: frames per video.
        resolution: side of the square frames in pixels.
        num_inference_steps: sampler steps unless the run says otherwise.
        guidance_scale: classifier-free guidance.
        batch_size: videos sampled together; part of a sampling stage's resume granularity, not of its result.
        embedded: whether the weights ship with the repository (labelled so in tables).
        architecture: folder of the configs in `qvd/models/architectures`, for `init=random`; null: the weights' own.
        init: `random` builds the true architecture with random weights and needs no file.
        revision: commit, tag or branch of a hub id.
        dtype: of the weights.
        offload: what leaves a GPU's memory while it is not needed.
        decode_chunk_size: frames that the autoencoder decodes at once.
        disparity: the dial of difficulty (ours, `qvd.models.difficulty`; the function stays the same): factor by which
            channel ranges are scattered wherever a linear path allows it; 1: off.
        asymmetry: channel offsets in half-ranges, where biases allow it; 0: off.
        temporal_skew: standard deviation of the log gains of the temporal features' channels; 0: off.
    """

    path: str
    num_frames: int
    resolution: int
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    embedded: bool = False
    architecture: str | None = None
    init: Init = Init.pretrained
    revision: str | None = None
    dtype: DType = DType.float32
    offload: Offload = Offload.none
    decode_chunk_size: int = 128
    disparity: float = 1.0
    asymmetry: float = 0.0
    temporal_skew: float = 0.0

    def __post_init__(self) -> None:
        for field in ("num_frames", "resolution", "num_inference_steps", "batch_size", "decode_chunk_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"model.{field}={getattr(self, field)}: must be at least 1")
        if self.guidance_scale < 0:
            raise ValueError(f"model.guidance_scale={self.guidance_scale}: must not be negative")
        for field, off in (("disparity", 1), ("asymmetry", 0), ("temporal_skew", 0)):
            if not off <= getattr(self, field) < float("inf"):
                raise ValueError(f"model.{field}={getattr(self, field)}: must be at least {off} ({off}: off)")
        if self.dialled and (self.dtype is not DType.float32 or self.offload is Offload.sequential):
            raise ValueError(
                f"model.dtype={self.dtype.value}, model.offload={self.offload.value}: "
                "disparity, asymmetry and temporal_skew need float32 and no sequential offload"
            )

    @property
    def dialled(self) -> bool:
        """Whether the dial of difficulty is turned on."""
        return (self.disparity, self.asymmetry, self.temporal_skew) != (1, 0, 0)

    @property
    def marker(self) -> str:
        """A file that the weights' folder must hold."""
        return "model_index.json"

    def folder(self) -> Path:
        """The weights' folder; a hub id's is downloaded once.

        Raises:
            FileNotFoundError: no pipeline at `path`, or a hub id that cannot be reached.
        """
        from qvd.models.hub import find_folder

        return find_folder(self.path, self.revision, self.embedded, self.marker)

    def check(self) -> None:
        """Refuse what could not be loaded, before anything is computed.

        Raises:
            FileNotFoundError: as `folder`.
        """
        if self.init is Init.pretrained:
            self.folders()

    def folders(self) -> list[Path]:
        """Every folder that weights are read from."""
        return [self.folder()]

    def fingerprint(self) -> str:
        """What the weights are: a hash over all their files, wherever they lie, or over what random ones are shaped
        by."""
        from qvd.store import file_digest, fingerprint

        named = self.architecture is not None or self.init is Init.random
        configs = file_digest(self.config_folder().rglob("*.json")) if named else None
        if self.init is Init.random:
            return f"random {configs}"
        return fingerprint([configs, *(file_digest(self._files(folder)) for folder in self.folders())])

    def _files(self, folder: Path) -> list[Path]:
        """The files of a folder that a sample depends on: not the card and its picture."""
        return [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".md", ".png")]

    def config_folder(self) -> Path:
        """Where every part's config.json lies."""
        if self.architecture is None:
            return self.folder()
        return Path(__file__).parent / "architectures" / self.architecture

    def load_pipeline(self, device: str) -> DiffusionPipeline:
        """The frozen pipeline in eval mode, in `dtype`, on `device` or offloaded.

        Raises:
            FileNotFoundError: weights that are nowhere.
            ValueError: a stage that would not fit, with advice.
        """
        from qvd.models.loading import check_memory, place

        silence_loading()
        if not self.embedded:
            check_memory(self, device)
        pipeline = self.random_pipeline() if self.init is Init.random else self.pretrained_pipeline()
        return place(pipeline, self, device)

    def load(self, device: str, prompt: str) -> DiffusionPipeline:
        """The pipeline that a run samples with: `load_pipeline`'s, the dial of difficulty turned.

        Args:
            device: where it runs.
            prompt: any one of the run's; the dial looks at channel ranges of the first step of sampling it.
        """
        pipeline = self.load_pipeline(device)
        if self.dialled:
            from qvd.models.difficulty import dial_

            dial_(self, pipeline, prompt)
        return pipeline

    @abstractmethod
    def pretrained_pipeline(self) -> DiffusionPipeline:
        """The pipeline with its weights, in `dtype`, in main memory."""

    @abstractmethod
    def random_pipeline(self) -> DiffusionPipeline:
        """The same pipeline with random weights, without text encoder: text embeddings are drawn at random too."""

    @abstractmethod
    def empty_denoiser(self) -> nn.Module:
        """The denoiser's architecture without memory for its weights (on the meta device)."""

    @abstractmethod
    def example_call(self, denoiser: nn.Module, entries: int) -> dict[str, Any]:
        """Arguments of one denoiser call at the sampler's shapes, on torch's current device and in `dtype`.

        Args:
            denoiser: only its config is read.
            entries: videos in the call; guidance makes two of each sample.
        """

    resizable: ClassVar[bool] = True  # whether the network takes any resolution

    # Options that no denoiser call depends on: where files lie (what is in them is the fingerprint's), how memory is
    # saved, and what happens to the latents afterwards.
    beside_the_denoiser: ClassVar[tuple[str, ...]] = ("path", "embedded", "revision", "offload", "decode_chunk_size")

    @property
    @abstractmethod
    def text_parameters(self) -> int:
        """Parameters of the full-size family's text encoder."""

    @abstractmethod
    def denoiser(self, pipeline: DiffusionPipeline) -> nn.Module:
        """The network that the sampler calls at every step."""

    @abstractmethod
    def set_denoiser_(self, pipeline: DiffusionPipeline, denoiser: nn.Module) -> None:
        """Swap the denoiser of `pipeline`."""

    @abstractmethod
    def sample(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        generators: list[torch.Generator],
        num_inference_steps: int,
    ) -> torch.Tensor:
        """uint8 (B, T, 3, H, W) videos, one per prompt, from the generators' initial noise."""

    @abstractmethod
    def timesteps(self, pipeline: DiffusionPipeline, num_inference_steps: int) -> torch.Tensor:
        """The sampler's whole timestep set, in sampling order."""

    @abstractmethod
    def temporal_feature_sites(self, denoiser: nn.Module) -> list[str]:
        """Names of the Linear layers whose input is a pure function of the timestep (HTDQ's sites)."""

    @abstractmethod
    def temporal_features(self, denoiser: nn.Module, timesteps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Exact input (n_timesteps, channels) of every temporal-feature site at each timestep."""

    @abstractmethod
    def boundary_layers(self, denoiser: nn.Module) -> BoundaryLayers:
        """First, last and timestep-embedding layers."""

    @abstractmethod
    def reconstruction_blocks(self, denoiser: nn.Module, granularity: Reconstruction) -> list[str]:
        """Names of the modules that a reconstruction treats one at a time, in module order.

        They are disjoint and together hold every weighted layer: residual and transformer blocks, and alone the layers
        outside of them; `layer`: every layer alone; `none`: nothing.
        """

    @abstractmethod
    def split_shortcuts(self, denoiser: nn.Module) -> dict[str, int]:
        """Layer that reads a U-Net's skip concatenation → the input channel at which the skip's part starts."""


def silence_loading() -> None:
    """Keep diffusers' and transformers' own bars and notices out of the terminal; ours show the progress."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
