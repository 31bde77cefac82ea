"""Streaming statistics: growth of the histogram, per-channel numbers, and the pass through a real denoiser."""

import numpy as np
import pytest
import torch

from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.observe import observe
from qvd.calibration.observers import NUM_BINS, HistogramObserver, Ranges, bin_counts, rebin
from qvd.graph.sites import operand_sites, weighted_layers


def test_statistics_of_a_stream_are_those_of_the_whole():
    parts = [torch.randn(3, 5, 4, 4) * scale for scale in (1, 3, 0.2)]
    whole, observer = torch.cat(parts), HistogramObserver(1)
    for part in parts:
        observer.update(part)
    seen = observer.result()
    assert (seen.low, seen.high) == (whole.min(), whole.max())
    torch.testing.assert_close(seen.channel_min, whole.amin((0, 2, 3)))
    torch.testing.assert_close(seen.channel_max, whole.amax((0, 2, 3)))
    torch.testing.assert_close(seen.channel_mean, whole.double().mean((0, 2, 3)))
    assert seen.histogram.sum().item() == pytest.approx(whole.numel())
    centres = torch.linspace(seen.low, seen.high, 2 * NUM_BINS + 1, dtype=torch.float64)[1::2]
    mean = (centres * seen.histogram).sum() / whole.numel()
    assert mean.item() == pytest.approx(whole.mean().item(), abs=2e-3)


def test_bins_are_those_of_histc():
    x = torch.randn(1000)
    low, high = x.min().item(), x.max().item()
    moved = (bin_counts(x, 64, low, high) - torch.histc(x, 64, low, high)).abs().sum()
    assert moved <= 2  # a value on an edge may fall on either side


def test_what_lies_below_the_range_is_not_counted():
    """As SCRI marks the padding of its rows."""
    assert bin_counts(torch.tensor([-torch.inf, 0.0, 0.4, -torch.inf, 1.0]), 2, 0.0, 1.0).tolist() == [2, 1]


def test_means_are_summed_in_double_precision():
    """2^24 + 3 has no single precision."""
    observer = HistogramObserver(-1)
    observer.update(torch.tensor([[2.0**24], [1.0], [1.0], [1.0]]))
    assert observer.result().channel_mean.item() == (2**24 + 3) / 4


def test_rebinning_keeps_the_total_and_a_point_stays_a_point():
    counts = np.random.default_rng(0).random(64)
    assert rebin(counts, (0.0, 1.0), (-2.0, 5.0)).sum() == pytest.approx(counts.sum())
    point = rebin(np.array([5.0, 0, 0, 0]), (1.0, 1.0), (0.0, 2.0))
    assert point.tolist() == [0, 0, 5, 0]
    assert rebin(np.array([5.0, 0, 0, 0]), (2.0, 2.0), (0.0, 2.0)).tolist() == [0, 0, 0, 5]


def test_constant_activation_is_counted():
    observer = HistogramObserver(-1)
    observer.update(torch.zeros(4, 3))
    observer.update(torch.tensor([[1.0, -1.0, 0.0]]))
    assert observer.result().histogram.sum() == 15


def test_observe_reaches_every_layer_and_operand(unet, ranges):
    assert set(ranges) == set(weighted_layers(unet)) | set(operand_sites(unet))
    for name, layer in weighted_layers(unet).items():
        assert len(ranges[name].channel_min) == layer.weight.shape[1]
    assert all(ranges[s].low >= 0 for s in ranges if s.endswith(".probabilities"))


def test_observing_leaves_the_denoiser_as_it_was(unet, calibration):
    processors = {name: m.processor for name, m in unet.named_modules() if hasattr(m, "processor")}
    entry = calibration.take([0])
    before = unet(**entry).sample
    observe(unet, CalibrationSet.from_tensors(entry))
    assert all(unet.get_submodule(name).processor is processor for name, processor in processors.items())
    assert torch.equal(unet(**entry).sample, before)


def test_unreached_layer_is_named():
    class HalfUsed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.forgotten = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(RuntimeError, match="forgotten"):
        observe(HalfUsed(), CalibrationSet.from_tensors({"x": torch.randn(3, 2)}))


def test_ranges_survive_the_round_trip(ranges):
    restored = Ranges.from_tensors(ranges.to_tensors())
    assert list(restored) == list(ranges)
    for site, seen in ranges.items():
        assert torch.equal(restored[site].histogram, seen.histogram)
        assert (restored[site].low, restored[site].high) == (seen.low, seen.high)


def test_extremes_are_known_fold_by_fold_and_without_one():
    observer, parts = HistogramObserver(-1), [torch.randn(7, 3) * (number + 1) for number in range(3)]
    for number, part in ((2, parts[2]), (0, parts[0]), (1, parts[1]), (0, -parts[0])):
        observer.update(part, number)
    record = observer.result()
    parts[0] = torch.cat([parts[0], -parts[0]])
    assert torch.equal(record.fold_min, torch.stack([part.amin(0) for part in parts]))
    assert torch.equal(record.fold_max, torch.stack([part.amax(0) for part in parts]))
    others, without = torch.cat([parts[0], parts[2]]), record.without_fold(1)
    assert torch.equal(without.channel_min, others.amin(0)) and torch.equal(without.channel_max, others.amax(0))
    assert (without.low, without.high) == (others.min().item(), others.max().item())
