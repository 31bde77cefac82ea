"""What a model family can be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qvd.options.hub import MODELS, check_folder, local_folder, read_key

FRAME_MULTIPLE = 8  # of a frame's side, as diffusers' pipelines want it
MOST_STEPS = 1000  # that a sampler can take: as many as the noise has levels


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


class Scheduler(Enum):
    """Who walks from noise to latents, as diffusers has them; see `qvd.models.schedulers`.

    `euler_a`, `ddpm`, `dpmpp_sde` and `lcm` draw noise at every step, each sample's from its own generator. `dpmpp` is
    DPM-Solver++ (2M), `dpmpp_sde` its stochastic form, `lcm` for distilled models alone.
    """

    ddim = "ddim"
    ddpm = "ddpm"
    pndm = "pndm"
    heun = "heun"
    euler = "euler"
    euler_a = "euler_a"
    dpmpp = "dpmpp"
    dpmpp_sde = "dpmpp_sde"
    unipc = "unipc"
    lcm = "lcm"


@dataclass(frozen=True)
class ModelOptions:
    """A diffusers text-to-video pipeline with a denoiser to quantize.

    Attributes:
        path: folder in the hub's layout, or a hub id.
        num_frames: frames per video.
        resolution: side of the square frames in pixels.
        num_inference_steps: sampler steps unless the run says otherwise.
        guidance_scale: classifier-free guidance.
        negative_prompt: what guidance leads away from, in every sample; empty: from no text.
        scheduler: another one than the pipeline's own, with its configuration; null: its own.
        batch_size: videos sampled together; part of a sampling stage's resume granularity, not of its result.
        embedded: whether the weights ship with the repository (labelled so in tables).
        architecture: folder of the configs in `qvd/models/architectures`, for `init=random`; null: the weights' own.
        init: `random` builds the true architecture with random weights and needs no file.
        revision: commit, tag or branch of a hub id.
        variant: of the weights' files, as in `model.fp16.safetensors`; null: those that name none, or the only one.
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
    variant: str | None = None
    dtype: DType = DType.float32
    offload: Offload = Offload.none
    decode_chunk_size: int = 128
    negative_prompt: str = ""
    scheduler: Scheduler | None = None
    disparity: float = 1.0
    asymmetry: float = 0.0
    temporal_skew: float = 0.0

    def __post_init__(self) -> None:
        for field in ("num_frames", "resolution", "num_inference_steps", "batch_size", "decode_chunk_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"model.{field}={getattr(self, field)}: must be at least 1")
        if self.resolution % FRAME_MULTIPLE:
            raise ValueError(f"model.resolution={self.resolution}: must be a multiple of {FRAME_MULTIPLE}")
        if self.num_inference_steps > MOST_STEPS:
            raise ValueError(f"model.num_inference_steps={self.num_inference_steps}: must be at most {MOST_STEPS}")
        if not 0 <= self.guidance_scale < float("inf"):
            raise ValueError(f"model.guidance_scale={self.guidance_scale}: must not be negative, and finite")
        if self.negative_prompt and self.guidance_scale <= 1:
            raise ValueError(
                f"model.negative_prompt={self.negative_prompt!r}: nothing leads away from it at "
                f"model.guidance_scale={self.guidance_scale}, which must be above 1"
            )
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

    def check(self) -> None:
        """Refuse a path at which nothing can be; whether a hub id can be reached shows when it is loaded.

        Raises:
            FileNotFoundError: neither a folder with a pipeline nor a hub id.
            ValueError: no such architecture.
        """
        architectures = sorted(folder.name for folder in (MODELS / "architectures").iterdir())
        if self.architecture is not None and self.architecture not in architectures:
            raise ValueError(
                f"model.architecture={self.architecture}: allowed are {', '.join(architectures)}, or null: that of "
                "the weights"
            )
        if self.init is Init.pretrained or self.architecture is None:
            check_folder(self.path, self.embedded, self.marker)


@dataclass(frozen=True)
class AnimateDiffOptions(ModelOptions):
    """The AnimateDiff family (full size: SD 1.5 with `guoyww/animatediff-motion-adapter-v1-5-2`).

    Attributes:
        motion_adapter: folder or hub id of the motion modules; null: those in the pipeline's own UNet.
        motion_adapter_revision: commit, tag or branch of its hub id.
    """

    motion_adapter: str | None = None
    motion_adapter_revision: str | None = None

    def check(self) -> None:
        super().check()
        if self.init is Init.pretrained and self.motion_adapter is not None:
            check_folder(self.motion_adapter, False, "config.json", option="model.motion_adapter")


class Classes(Enum):
    """What a model's classes are: `none`, the combinations of `shapes`, or the classes of UCF-101 in name order."""

    none = "none"
    shapes = "shapes"
    ucf101 = "ucf101"


@dataclass(frozen=True)
class ClassLatteOptions(ModelOptions):
    """The released class-conditional and unconditional Latte.

    Attributes:
        classes: how prompts name classes; `none` for the unconditional checkpoints.
        checkpoint: file of the released weights in `path`; null: `path` is a folder in the hub's layout.
        vae: folder or hub id of the autoencoder that a released checkpoint goes with.
        vae_revision: commit, tag or branch of its hub id.
    """

    classes: Classes = Classes.none
    checkpoint: str | None = None
    vae: str | None = None
    vae_revision: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.checkpoint is None) != (self.vae is None):
            raise ValueError("model.checkpoint and model.vae go together: a released checkpoint has no autoencoder")
        if self.negative_prompt:
            raise ValueError(
                f"model.negative_prompt={self.negative_prompt!r}: this model has classes, and reads no text"
            )

    @property
    def marker(self) -> str:
        return self.checkpoint or "model_index.json"

    def check(self) -> None:
        """As of every model, and ValueError for a geometry that is not the network's own."""
        super().check()
        if self.init is Init.pretrained and self.vae is not None:
            check_folder(self.vae, False, "config.json", option="model.vae")
        folder = MODELS / "architectures" / self.architecture if self.architecture is not None else None
        folder = folder or local_folder(self.path, self.embedded, self.marker)
        if folder is None:  # a hub id whose configs are not here yet
            return
        network, vae = (folder / part / "config.json" for part in ("transformer", "vae"))
        scale = 2 ** (len(read_key(vae, "block_out_channels")) - 1)
        own = {
            "num_frames": read_key(network, "num_frames"),
            "resolution": read_key(network, "sample_size") * scale,
        }
        for key, value in own.items():
            if getattr(self, key) != value:
                raise ValueError(f"model.{key}={getattr(self, key)}: this network makes {value} and nothing else")
