"""What metrics are computed from: batches of videos with their prompts, or sets of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from torch import Tensor, nn

from metrics.extractors.base import file_sha256
from metrics.options import Protocol

N = TypeVar("N", bound=nn.Module)
S = TypeVar("S", bound="Shared")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Network(Generic[N]):
    """A network that metrics look through, loaded when the first of them needs it.

    Attributes:
        weights: its file, folder or hub id under a protocol; None where the protocol names none, which leaves its
            metrics out.
        load: makes it of these, in evaluation mode, on the CPU.
    """

    weights: Callable[[Protocol], str | Path | None]
    load: Callable[[str | Path], N]

    def identity(self, protocol: Protocol) -> str | None:
        """What stands for the weights in a stored result's inputs: the SHA-256 of each file, or the hub id."""
        weights = self.weights(protocol)
        if weights is None or not Path(weights).exists():
            return None if weights is None else str(weights)
        folder = Path(weights)
        files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else [folder]
        return " ".join(f"{path.name}:{file_sha256(path)}" for path in files)


@dataclass(kw_only=True, eq=False)
class Shared:
    """Something that several metrics compute the same things from."""

    _kept: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self: S, compute: Callable[[S], T]) -> T:
        """`compute(self)`, however many metrics ask for it."""
        if compute not in self._kept:
            self._kept[compute] = compute(self)
        return self._kept[compute]


@dataclass(kw_only=True, eq=False)
class MetricContext(Shared):
    """What all batches of one set of videos have in common.

    Attributes:
        protocol: under which the videos are measured.
        prompts: of the whole set; a text encoder pads to the longest, so parts of it would differ in the last digits.
        device: of the networks.
        networks: those loaded so far, which may be shared with other sets.
    """

    protocol: Protocol
    prompts: Sequence[str]
    device: str = "cpu"
    networks: dict[Network[Any], nn.Module] = field(default_factory=dict)

    def network(self, network: Network[N]) -> N:
        """The network, on the device."""
        if network not in self.networks:
            weights = network.weights(self.protocol)
            assert weights is not None, "a metric whose network is not named is left out"
            self.networks[network] = network.load(weights).to(self.device)
        return cast(N, self.networks[network])


@dataclass(kw_only=True, eq=False)
class VideoBatch(Shared):
    """Some of a set's videos, in order.

    Attributes:
        videos: uint8 (B, T, 3, H, W).
        prompts: the B texts that the videos were made for.
        context: what it shares with the set's other batches.
        fp_videos: the FP model's, from the same seeds and prompts; None where the videos are FP's own, or alone.
    """

    videos: Tensor
    prompts: Sequence[str]
    context: MetricContext
    fp_videos: Tensor | None = None

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """The videos and the FP model's.

        Raises:
            ValueError: there are no FP videos.
        """
        if self.fp_videos is None:
            raise ValueError("the metric compares with the FP model's videos, and there are none")
        return self.videos, self.fp_videos


@dataclass(frozen=True, eq=False)
class FeatureSets:
    """An extractor's features of an arm's videos and of the sets that they are compared with.

    Attributes:
        features: (N, D), of the arm.
        fp_features: (N, D), of the FP model's videos; row i is of the same seed and prompt as row i of the arm's.
        reference: (M, D), of the reference clips; M = 0 where there are none, and then nothing compares with them.
        prompts_match: the videos were prompted with the captions of the reference's clips, in their order, as the
            protocol's `prompts: captions` and the dataset have it.
    """

    features: Tensor
    fp_features: Tensor
    reference: Tensor
    prompts_match: bool = False

    @property
    def paired(self) -> bool:
        """Video i was prompted with the caption of reference clip i; unknown where clips are missing, or more."""
        return self.prompts_match and len(self.features) == len(self.reference)
