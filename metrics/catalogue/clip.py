"""CLIPSIM and CLIP-Temp, from one pass of CLIP over the frames."""

import torch
from torch import Tensor

from metrics.clipsim import ClipScorer, clip_folder, prompt_similarity
from metrics.declaration import Compared, Direction, Place, VideoMetric
from metrics.inputs import MetricContext, Network, VideoBatch
from metrics.temporal import neighbour_similarity

CLIP = Network(weights=lambda protocol: clip_folder(protocol.clip), load=ClipScorer.from_pretrained)


def _frames(batch: VideoBatch) -> Tensor:
    return batch.context.network(CLIP).encode_frames(batch.videos).cpu()


def _prompts(context: MetricContext) -> dict[str, Tensor]:
    distinct = list(dict.fromkeys(context.prompts))
    return dict(zip(distinct, context.network(CLIP).encode_prompts(distinct).cpu(), strict=True))


def _agreement(batch: VideoBatch) -> Tensor:
    of_prompt = batch.context.once(_prompts)
    return prompt_similarity(batch.once(_frames), torch.stack([of_prompt[prompt] for prompt in batch.prompts]))


def _smoothness(batch: VideoBatch) -> Tensor:
    return neighbour_similarity(batch.once(_frames))


CLIPSIM = VideoMetric(
    key="clipsim",
    name="CLIPSIM",
    direction=Direction.higher,
    decimals=4,
    place=Place.TERMINAL,
    order=50,
    compares_with=Compared.prompts,
    networks=(CLIP,),
    compute=_agreement,
)

CLIP_TEMP = VideoMetric(
    key="clip_temp",
    name="CLIP-Temp",
    direction=Direction.higher,
    decimals=4,
    order=60,
    networks=(CLIP,),
    compute=_smoothness,
)
