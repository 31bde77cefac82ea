"""The affine quantizer against golden numbers of Q-Diffusion's public one, and its own invariants."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qvd.calibration.observers import HistogramObserver
from qvd.numerics.affine import affine_parameters, fake_quantize, quantize, symmetric_parameters
from qvd.numerics.range_search import channel_parameters, histogram_parameters
from qvd.options.rules import RangeMethod
from qvd.spec.quantization import quantize_weight

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "qdiffusion_affine.npz")
METHODS = {"max": RangeMethod.minmax, "mse": RangeMethod.lp}
# Q-Diffusion leaves 0 out of the range of channels whose minimum is positive; we include it.
POSITIVE_CHANNELS = {"w_linear": [3]}


def golden(key):
    return torch.from_numpy(np.asarray(GOLDEN[key]))


def assert_levels_agree(ours, reference, scale):
    """Equal up to float rounding, or one level apart where x/Δ is a tie."""
    difference = (ours - reference).abs() / scale
    assert (difference < 1.001).all()
    assert (difference > 1e-3).float().mean() < 1e-3


@pytest.mark.parametrize("n_bits", [3, 4, 6, 8])
@pytest.mark.parametrize("range_method", METHODS)
@pytest.mark.parametrize("name", ["w_linear", "w_conv2d", "w_conv1d"])
def test_weights_agree_with_golden(name, range_method, n_bits):
    weight, prefix = golden(name), f"{name}_b{n_bits}_{range_method}"
    keep = [c for c in range(len(weight)) if c not in POSITIVE_CHANNELS.get(name, [])]
    quantized = quantize_weight(weight, n_bits, METHODS[range_method])
    reference_scale = golden(f"{prefix}_scale").flatten()
    torch.testing.assert_close(quantized.scale[keep], reference_scale[keep], rtol=1e-5, atol=0)
    torch.testing.assert_close(quantized.zero_point[keep].float(), golden(f"{prefix}_zero").flatten()[keep])
    shape = (-1, *[1] * (weight.dim() - 1))
    assert_levels_agree(quantized.dequantize()[keep], golden(f"{prefix}_deq")[keep], reference_scale[keep].view(shape))


@pytest.mark.parametrize("n_bits", [4, 6, 8])
@pytest.mark.parametrize("range_method", METHODS)
@pytest.mark.parametrize("name", ["a_gauss", "a_silu", "a_heavy"])
def test_activations_agree_with_golden(name, range_method, n_bits):
    x, prefix = golden(name), f"{name}_b{n_bits}_{range_method}"
    observer = HistogramObserver(None)
    observer.update(x)
    seen = observer.result()
    scale, zero_point = histogram_parameters(seen.histogram, seen.low, seen.high, n_bits, METHODS[range_method])
    assert scale == pytest.approx(golden(f"{prefix}_scale").item(), rel=1e-5)
    assert zero_point == golden(f"{prefix}_zero").item()
    assert_levels_agree(fake_quantize(x, scale, zero_point, n_bits), golden(f"{prefix}_deq"), scale)


@pytest.mark.parametrize("n_bits", [8, 16])
def test_softmax_agrees_with_golden(n_bits):
    x = golden("softmax")
    scale, zero_point = affine_parameters(torch.tensor(0.0), x.max(), n_bits)
    assert zero_point == 0
    torch.testing.assert_close(scale, golden(f"softmax_b{n_bits}_scale"), rtol=1e-5, atol=0)
    assert_levels_agree(fake_quantize(x, scale, zero_point, n_bits), golden(f"softmax_b{n_bits}_deq"), scale)


def test_positive_range_includes_zero():
    scale, zero_point = affine_parameters(torch.tensor(2.0), torch.tensor(17.0), 4)
    assert (scale, zero_point) == (17 / 15, 0)


def test_a_span_too_small_to_be_divided_counts_as_empty():
    assert affine_parameters(torch.tensor(0.0), torch.tensor(1e-44), 8) == (1, 0)


@pytest.mark.parametrize("method", RangeMethod)
def test_all_zero_weight_has_a_usable_scale(method):
    quantized = quantize_weight(torch.zeros(4, 3, 3, 1, 1), 8, method)
    assert (quantized.scale > 0).all()
    assert (quantized.dequantize() == 0).all()


@given(n_bits=st.integers(2, 8), low=st.floats(-100, 0), high=st.floats(0, 100), symmetric=st.booleans())
def test_levels_map_to_themselves(n_bits, low, high, symmetric):
    low, high = torch.tensor(low), torch.tensor(high)
    if symmetric:
        scale, zero_point = symmetric_parameters(torch.maximum(-low, high), n_bits)
    else:
        scale, zero_point = affine_parameters(low, high, n_bits)
    codes = torch.arange(2.0**n_bits)
    assert (quantize((codes - zero_point) * scale, scale, zero_point, n_bits) == codes).all()


def test_symmetric_codes_are_centred():
    scale, zero_point = symmetric_parameters(torch.tensor(7.0), 4)
    assert (scale, zero_point) == (1, 8)
    assert fake_quantize(torch.tensor([-9.0, 7.4]), scale, zero_point, 4).tolist() == [-8, 7]


def test_lp_search_never_loses_to_minmax():
    weight = torch.distributions.StudentT(2.0).sample((6, 500))

    def error(method):
        scale, zero_point = channel_parameters(weight, 4, method)
        rounded = fake_quantize(weight, scale[:, None], zero_point[:, None], 4)
        return (rounded - weight).abs().pow(2.4).mean(1)

    assert (error(RangeMethod.lp) <= error(RangeMethod.minmax)).all()
