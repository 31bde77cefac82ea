"""Grids per timestep, frame and token: each against affine grids applied group by group."""

import json

import pytest
import torch

from qvd.numerics.affine import affine_parameters
from qvd.numerics.grids import AffineGrid, FrameGrid, TimestepGrid, TokenGrid, grid_from_dict


def test_every_token_gets_its_own_extremes():
    x = torch.randn(2, 5, 16) * torch.logspace(-2, 2, 5)[:, None] + 1
    rounded = TokenGrid(8, (-1,))(x)
    for token, value in zip(x.flatten(0, 1), rounded.flatten(0, 1), strict=True):
        scale, zero_point = affine_parameters(token.min(), token.max(), 8)
        torch.testing.assert_close(value, AffineGrid(8, scale.item(), zero_point.item())(token))
    image = torch.randn(3, 4, 6, 6) * torch.tensor([0.01, 1, 100]).view(3, 1, 1, 1)
    error = (TokenGrid(8, (1, 2, 3))(image) - image).abs().amax((1, 2, 3))
    assert (error <= (image.amax((1, 2, 3)) - image.amin((1, 2, 3))) / 255).all()


@pytest.mark.parametrize(("frame_dim", "shape"), [(0, (6, 5, 4)), (1, (2, 3, 4)), (2, (2, 5, 3, 4, 4))])
def test_every_frame_gets_its_own_grid(frame_dim, shape):
    grid = FrameGrid(4, (0.1, 0.2, 0.3), (3.0, 8.0, 12.0), frame_dim)
    x = torch.randn(shape)
    rounded = grid(x)
    for frame in range(3):
        index = [slice(None)] * len(shape)
        index[frame_dim] = slice(frame, None, 3) if frame_dim == 0 else frame
        torch.testing.assert_close(rounded[tuple(index)], grid.group(frame)(x[tuple(index)]))


def test_grids_survive_their_dictionary():
    for grid in (
        TokenGrid(8, (-2, -1)),
        FrameGrid(8, (0.1, 0.2), (3.0, 4.0), 2),
        TimestepGrid(6, (0.1, 0.2), (3.0, 4.0), (901.0, 1.0)),
    ):
        assert grid_from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


def test_bounds_are_those_of_the_widest_group():
    """Four bits: [-1.5, 6] and [-8, 7] are within [-8, 7]; with three, [-1.5, 2] and [-1, 6] within [-1.5, 6]."""
    assert FrameGrid(4, (0.5, 1.0), (3.0, 8.0), 0).bounds == (-8, 7)
    assert TimestepGrid(3, (0.5, 1.0), (3.0, 1.0), (901.0, 1.0)).bounds == (-1.5, 6)


def test_a_timestep_grid_does_not_guess_the_timestep():
    grid = TimestepGrid(6, (0.1, 0.2), (3.0, 4.0), (901.0, 1.0))
    with pytest.raises(RuntimeError, match="convert"):
        grid(torch.zeros(2))
    assert grid.group(1) == AffineGrid(6, 0.2, 4.0)
