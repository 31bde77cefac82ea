"""LPIPS to the FP model's videos of the same seeds, where a protocol names its weights."""

from torch import Tensor

from metrics.declaration import Compared, Direction, VideoMetric
from metrics.inputs import Network, VideoBatch
from metrics.lpips import LPIPS as Distance

ALEXNET = Network(weights=lambda protocol: protocol.lpips_weights, load=Distance.from_file)


def _to_fp(batch: VideoBatch) -> Tensor:
    videos, fp_videos = (videos.to(batch.context.device) for videos in batch.pair)
    return batch.context.network(ALEXNET)(videos, fp_videos)


LPIPS = VideoMetric(
    key="lpips_fp",
    name="LPIPS",
    direction=Direction.lower,
    place=None,
    order=100,
    compares_with=Compared.fp,
    networks=(ALEXNET,),
    compute=_to_fp,
)
