"""PSNR and SSIM to the FP model's videos of the same seeds."""

from metrics.declaration import Compared, Direction, Place, VideoMetric
from metrics.fidelity import psnr, ssim

PSNR = VideoMetric(
    key="psnr_fp",
    name="PSNR",
    title="PSNR to the FP videos",
    unit="dB",
    direction=Direction.higher,
    decimals=1,
    place=Place.TERMINAL,
    order=70,
    compares_with=Compared.fp,
    compute=lambda batch: psnr(*batch.pair),
)

SSIM = VideoMetric(
    key="ssim_fp",
    name="SSIM",
    direction=Direction.higher,
    decimals=3,
    place=Place.WIDE_TERMINAL,
    order=80,
    compares_with=Compared.fp,
    compute=lambda batch: ssim(*batch.pair),
)
