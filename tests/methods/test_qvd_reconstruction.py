"""QVD's optional reconstruction: folded weights on transformed, quantized inputs."""

from dataclasses import replace

import torch

from qvd.backends.convert import convert
from qvd.calibration.calibration_set import CalibrationSet
from qvd.methods.qvd import QVD
from qvd.options.htdq import HtdqForm
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.scri import ScriMode
from qvd.options.units import Reconstruction
from tests.tiny_unet import context_of


@torch.no_grad()
def test_layers_are_reconstructed_after_the_fold(unet, ranges, calibration, adapter):
    entries = calibration if isinstance(calibration, CalibrationSet) else CalibrationSet.from_tensors(calibration)
    context = context_of(adapter, unet, "w4a8", torch.arange(0, 1000, 100))
    some = ["down_blocks.0.attentions.*"]  # it takes a minute for all of them
    method = QVD(
        scri=ScriMode.shift,
        htdq=HtdqForm.uniform,
        only=some,
        capture_rows=64,
        capture_entries=2,
        adaround=AdaRoundSettings(iterations=30, sweeps=2),
    )
    plain = method.quantize(unet, ranges, entries, context)
    learned = replace(method, reconstruction=Reconstruction.layer).quantize(unet, ranges, entries, context)
    assert learned.summary["rounding_error_after"] < learned.summary["rounding_error_before"]
    absorbed = [name for name, layer in plain.layers.items() if layer.absorbed_by is not None]
    assert any(not torch.equal(learned.layers[n].weight.codes, plain.layers[n].weight.codes) for n in absorbed)
    entry = entries.take([0, 1, 2, 3])
    reference = unet(**entry).sample

    def error(quantization):
        return (convert(unet, quantization)(**entry).sample - reference).square().sum()

    assert error(learned) < error(plain)
