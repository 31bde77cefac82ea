"""The kernel distance against its formula, on sets so small that every subset can be listed."""

from itertools import combinations

import pytest
import torch

from metrics.kernel import kernel_distance

X, Y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.tensor(
    [[[0.0]], [[0.5]]], dtype=torch.float64
)


def mmd(x, y):
    """Unbiased MMD² under (x·y/D + 1)³: no row meets itself."""
    n = len(x)
    xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return (within - 2 * xy.mean()).item()


def test_sets_of_one_size_are_used_whole():
    found = kernel_distance(X, Y)
    assert (found.mean, found.std) == (pytest.approx(mmd(X, Y)), 0)


def test_each_subset_is_drawn_at_random_from_both_sides():
    pairs = list(combinations(range(3), 2))
    possible = [mmd(X[list(i)], Y[list(j)]) for i in pairs for j in pairs]
    drawn = [kernel_distance(X, Y, subset_size=2, subsets=1, seed=seed) for seed in range(40)]
    assert all(d.std == 0 and min(abs(d.mean - p) for p in possible) < 1e-9 for d in drawn)
    assert len({round(d.mean, 9) for d in drawn}) == 9


def test_mean_and_deviation_are_those_of_the_subsets():
    pairs = list(combinations(range(3), 2))
    possible = torch.tensor([mmd(X[list(i)], Y[list(j)]) for i in pairs for j in pairs])
    found = kernel_distance(X, Y, subset_size=2, subsets=500)
    assert found.mean == pytest.approx(possible.mean().item(), abs=4 * found.std / 500**0.5)
    assert found.std == pytest.approx(possible.std(correction=0).item(), rel=0.1)
    assert kernel_distance(X, Y, subset_size=2, subsets=500) == found
