"""What moves along and what stays, against rotations, shifts and distances that are known."""

import math

import pytest
import torch
from torch.nn import functional

from dragnoise_core.lattice import FAR, carried, is_body, lattice, lattice_loss, lattice_weights, sample_places
from dragnoise_core.supervision import sample_patches

GRID = (96, 64)
HANDLES = torch.tensor([[20.0, 20.0], [40.0, 22.0], [30.0, 44.0]])


def turned(points, angle, shift=(0.0, 0.0)):
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return points @ turn + torch.tensor(shift)


def test_places_are_the_latent_cells_row_by_row():
    places = lattice((16, 24), GRID, torch.device("cpu"))
    assert places.shape == (16 * 24, 2)
    assert places[0].tolist() == [1.5, 1.5] and places[1].tolist() == [5.5, 1.5] and places[24].tolist() == [1.5, 5.5]
    feature = torch.randn(1, 3, 16, 24)
    torch.testing.assert_close(sample_places(feature, places, GRID), feature[0].flatten(1).T)


def test_sampling_is_that_of_the_resized_map_at_whole_cells():
    feature = torch.randn(1, 5, 16, 24)
    cells = torch.tensor([[0.0, 0.0], [95.0, 63.0], [37.0, 21.0]])
    wanted = sample_patches(feature, cells, 0, GRID)[:, :, 0, 0]
    torch.testing.assert_close(sample_places(feature, cells, GRID), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_a_rigid_motion_carries_every_place_rigidly(angle):
    places = torch.rand(50, 2) * 60
    moved = turned(HANDLES, angle, (7.0, -3.0))
    torch.testing.assert_close(
        carried(places, HANDLES, moved), turned(places, angle, (7.0, -3.0)), rtol=1e-3, atol=1e-3
    )


def test_one_handle_carries_by_a_shift_and_two_apart_each_their_own_surroundings():
    places = torch.rand(20, 2) * 60
    way = torch.tensor([[5.0, -2.0]])
    torch.testing.assert_close(carried(places, HANDLES[:1], HANDLES[:1] + way), places + way)
    two = torch.tensor([[10.0, 30.0], [80.0, 30.0]])
    ends = two + torch.tensor([[0.0, 8.0], [0.0, 0.0]])
    found = carried(two, two, ends)
    torch.testing.assert_close(found, ends, rtol=1e-2, atol=0.1)


def test_weights_fall_with_the_distance_to_handles_and_rise_with_that_to_paths():
    handles, targets = torch.tensor([[20.0, 30.0]]), torch.tensor([[60.0, 30.0]])
    places = torch.tensor([[20.0, 30.0], [26.0, 30.0], [40.0, 30.0 + FAR], [60.0, 30.0], [20.0 - 2 * FAR, 30.0]])
    moves, stays = lattice_weights(places, handles, targets, 6, None)
    assert moves[0] == 1 and float(moves[1]) == pytest.approx(math.exp(-0.5)) and (moves[2:] < 0.05).all()
    assert stays[[0, 1, 3]].abs().max() < 1e-6
    assert float(stays[2]) == pytest.approx(1 - math.exp(-0.5))
    assert float(stays[4]) == pytest.approx(1 - math.exp(-2.0))


def test_with_a_mask_the_outside_stays_and_nothing_else():
    handles, targets = torch.tensor([[20.0, 30.0]]), torch.tensor([[60.0, 30.0]])
    places, allowed = torch.tensor([[20.0, 30.0], [90.0, 60.0], [21.0, 30.0]]), torch.tensor([1.0, 1.0, 0.0])
    moves, stays = lattice_weights(places, handles, targets, 6, allowed)
    assert moves.tolist() == [1, pytest.approx(0, abs=1e-6), 0] and stays.tolist() == [0, 0, 1]


def test_three_points_that_move_as_one_take_more_along():
    far = torch.tensor([[30.0, 60.0]])
    together, apart = turned(HANDLES, 0.2, (9.0, 4.0)), HANDLES + torch.tensor([[9.0, 0.0], [-9.0, 0.0], [0.0, 9.0]])
    assert is_body(HANDLES, together) and not is_body(HANDLES, apart) and not is_body(HANDLES[:2], together[:2])
    rigid, _ = lattice_weights(far, HANDLES, together, 6, None)
    loose, _ = lattice_weights(far, HANDLES, apart, 6, None)
    assert rigid > 0.5 > 0.1 > loose


def test_the_loss_is_zero_exactly_for_the_wanted_picture_and_its_gradient_finds_it():
    """A map shifted by the way has no loss; any other has."""
    generator = torch.Generator().manual_seed(0)
    source = functional.interpolate(torch.randn(1, 4, 8, 12, generator=generator), (16, 24), mode="bicubic")
    handles = torch.tensor([[45.5, 29.5]])
    targets = handles + torch.tensor([[8.0, 0.0]])  # two latent cells
    places = lattice((16, 24), GRID, torch.device("cpu"))
    moves, stays = lattice_weights(places, handles, targets, 6, None)

    def loss(feature, stillness=0.0):
        return lattice_loss(
            feature, handles, handles, targets, places, sample_places(source, places, GRID), moves, stays,
            grid=GRID, step_length=64.0, stillness=stillness, cells=16,
        )  # fmt: skip

    shifted = torch.roll(source, 2, -1)
    shifted[..., :2] = source[..., :1]
    inside = moves > 0.01
    assert float(loss(shifted)) < 1e-3 * float(loss(source)) and inside.any()
    assert float(loss(source, 1.0)) == pytest.approx(float(loss(source)))  # the source itself stays where it is
    assert float(loss(shifted, 1.0)) > float(loss(shifted))
