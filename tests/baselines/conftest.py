"""The tiny UNet3D and its adapter's double, as in tests/quant."""

from tests.quant.conftest import adapter, calibration, ranges, unet

__all__ = ["adapter", "calibration", "ranges", "unet"]
