"""Captured rows times the flattened weight are the layer's outputs."""

import pytest
import torch
from torch import nn

from qvd.calibration.calibration_set import SAMPLE_INDEX, CalibrationSet
from qvd.calibration.rows import capture_rows, input_rows


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(4, 3, bias=False), (2, 5, 4)),
        (nn.Conv2d(4, 3, 3, padding=1, stride=2, bias=False), (2, 4, 6, 6)),
        (nn.Conv2d(4, 3, 3, padding="same", bias=False), (2, 4, 5, 5)),
        (nn.Conv3d(4, 3, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1), bias=False), (2, 4, 5, 3, 3)),
    ],
    ids=str,
)
def test_rows_are_receptive_fields(layer, shape):
    x = torch.randn(shape)
    rows = input_rows(layer, x, 64, torch.Generator().manual_seed(0))
    output = rows.nan_to_num(0).flatten(1) @ layer.weight.flatten(1).T
    channels_last = layer(x) if isinstance(layer, nn.Linear) else layer(x).movedim(1, -1)
    distance = (output[:, None] - channels_last.reshape(-1, 3)).norm(dim=-1).amin(1)
    assert distance.max() < 1e-4
    assert rows.isnan().any() == (not isinstance(layer, nn.Linear))


def test_readers_of_one_tensor_get_the_same_rows(unet, calibration):
    names = [f"mid_block.attentions.0.transformer_blocks.0.attn1.to_{x}" for x in "qk"]
    rows = capture_rows(unet, names, calibration, num_rows=32, num_entries=2)
    assert all(torch.equal(*folds) for folds in zip(*rows.values(), strict=True))
    assert [fold.shape for fold in rows[names[0]]] == [(8, 64, 1)] * 4  # each entry is a sample, and they four


def test_a_folds_rows_are_of_its_own_samples():
    """Six samples of two entries whose every value is the sample's number: dealt out to four folds in turn."""
    net = nn.Sequential(nn.Linear(3, 2))
    numbers = torch.arange(6).repeat_interleave(2)
    calibration = CalibrationSet.from_tensors(
        {"input": numbers[:, None].expand(12, 3).float(), SAMPLE_INDEX: numbers, "timestep": torch.arange(12)}
    )
    net.forward = lambda input, timestep: net[0](input)
    rows = capture_rows(net, ["0"], calibration, num_rows=40, num_entries=12)["0"]
    assert [set(fold.flatten().tolist()) for fold in rows] == [{0, 4}, {1, 5}, {2}, {3}]
