"""What is saved of a converted denoiser."""

import torch
from diffusers import UNet3DConditionModel

from qvd.backends.convert import convert
from qvd.methods.qvd import QVD
from tests.tiny_unet import context_of


def test_a_saved_conversion_holds_the_specs_tensors_and_does_not_pass_for_the_floating_point_model(
    unet, calibration, ranges, adapter, tmp_path
):
    method = QVD(tau_candidates=1, capture_rows=32)
    context = context_of(adapter, unet, "w4a8", torch.tensor([900.0, 500.0, 100.0]))
    quantization = method.run(unet, ranges, calibration, context)
    model = convert(unet, quantization)
    saved, tensors = model.state_dict(), quantization.to_tensors()
    assert tensors and all(torch.equal(saved[name], tensor) for name, tensor in tensors.items())
    model.save_pretrained(tmp_path)
    _, info = UNet3DConditionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {f"{name}.weight" for name in quantization.layers}
