"""The HiDi-TQ family: exact level counts, listable code books, levels that map to themselves, nearest-code sanity."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qvd.numerics.grids import AffineGrid, Log2Grid, LogTauGrid, MixedGrid, PowerGrid, grid_from_dict


def family(n_bits):
    levels = 2**n_bits - 1
    return [
        AffineGrid(n_bits, scale=5.0 / levels, zero_point=float(levels // 4)),
        MixedGrid(n_bits, edge=0.6, maximum=4.4),
        Log2Grid(n_bits, maximum=4.4, sign_charged=False),
        Log2Grid(n_bits, maximum=4.4, sign_charged=True),
        Log2Grid(n_bits, maximum=4.4, sign_charged=False, has_zero=True),
        LogTauGrid(n_bits, maximum=4.4, tau=2 ** (n_bits - 1) / 7),
        PowerGrid(n_bits, scale=3.0 / levels, zero_point=float(levels // 4), power=0.4),
    ]


@pytest.mark.parametrize("n_bits", range(3, 9))
def test_codebook_has_exactly_its_levels_and_each_is_itself(n_bits):
    for grid in family(n_bits):
        book = grid.codebook()
        free_sign = isinstance(grid, Log2Grid) and not grid.sign_charged
        assert len(book) == len(book.unique()) == 2 ** (n_bits + free_sign) + getattr(grid, "has_zero", False)
        assert grid.codes(book).tolist() == list(range(len(book)))
        torch.testing.assert_close(grid(book), book, rtol=1e-12, atol=1e-300)


@given(n_bits=st.integers(3, 8), values=st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=20))
def test_outputs_are_levels_and_quantizing_twice_changes_nothing(n_bits, values):
    x = torch.tensor(values, dtype=torch.float64)
    for grid in family(n_bits):
        once = grid(x)
        distance = (once[:, None] - grid.codebook()).abs().amin(1)
        assert (distance <= 1e-9).all()
        torch.testing.assert_close(grid(once), once, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_bits", [3, 5, 8])
def test_grids_are_monotone(n_bits):
    x = torch.linspace(-0.28, 4.4, 4001, dtype=torch.float64)
    for grid in family(n_bits):
        assert (grid(x).diff() >= -1e-12).all(), grid


@pytest.mark.parametrize("n_bits", range(3, 9))
def test_codes_are_those_of_the_values_and_stop_at_the_ends(n_bits):
    x = torch.linspace(-1000, 1000, 4001, dtype=torch.float64)
    for grid in family(n_bits):
        codes = grid.codes(x)
        assert codes.min() >= 0 and codes.max() < len(grid.codebook())
        torch.testing.assert_close(grid.values(codes), grid(x), rtol=1e-12, atol=1e-300)


def test_log2_rounds_as_the_port():
    grid = Log2Grid(4, maximum=1.0, sign_charged=True)
    x = torch.tensor([1.0, 0.75, 0.7499, 0.5, 0.3, -0.2, 0.0])
    assert grid(x).tolist() == [1, 1, 0.5, 0.5, 0.25, -0.25, 2**-7]


def test_log2_as_the_port_runs_it_has_a_zero_below_its_last_power():
    """Three bits, M = 2: powers down to 2·2^-7; under 2·2^-8 there is 0, and above M there is M."""
    grid = Log2Grid(3, maximum=2.0, sign_charged=False, has_zero=True)
    x = torch.tensor([5.0, 2.0, 2 * 2.0**-8, 1.99 * 2.0**-8, -1.99 * 2.0**-8, -2 * 2.0**-8, 0.0, -1.6, -1.4])
    assert grid(x).tolist() == [2, 2, 2 * 2.0**-7, 0, 0, -2 * 2.0**-7, 0, -2, -1]


def test_log_tau_rounds_exponents():
    grid = LogTauGrid(4, maximum=1.0, tau=1.0)
    x = torch.tensor([1.0, 0.72, 0.7, 0.36, 0.35, -0.2, 3.0, -0.001, 0.0])
    assert grid(x).tolist() == [1, 1, 0.5, 0.5, 0.25, -0.25, 1, -(2**-7), 2**-7]
    assert LogTauGrid(4, maximum=8.0, tau=2.0)(torch.tensor([4.0])) == 4


def test_mixed_grid_by_hand():
    """Four bits, edge 0.5: ±(0.5, 0.25, 0.125, 0.0625) and 1, 1.5, …, 4.5."""
    grid = MixedGrid(4, edge=0.5, maximum=4.5)
    x = torch.tensor([0.74, 0.76, 4.2, 9.0, 0.38, 0.37, 0.01, 0.0, -0.2, -0.1, -3.0])
    assert grid(x).tolist() == [0.5, 1, 4, 4.5, 0.5, 0.25, 0.0625, 0.0625, -0.25, -0.125, -0.5]


def test_power_grid_by_hand():
    """√|x| with the sign of x in steps of a half, from -1.5 to 6."""
    grid = PowerGrid(4, scale=0.5, zero_point=3.0, power=0.5)
    x = torch.tensor([0.0, 0.3, 0.9, 1.5, 2.3, 100.0, -0.3, -1.5, -2.0, -9.0])
    assert grid(x).tolist() == [0, 0.25, 1, 1, 2.25, 36, -0.25, -1, -2.25, -2.25]


def test_power_one_is_the_affine_grid():
    x = torch.randn(500)
    affine, power = AffineGrid(6, 0.1, 30.0), PowerGrid(6, 0.1, 30.0, power=1.0)
    torch.testing.assert_close(power(x), affine(x))


def test_grids_survive_their_dictionary():
    for grid in family(4):
        assert grid_from_dict(grid.to_dict()) == grid
