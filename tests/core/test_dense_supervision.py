"""What moves along and how, against rotations, shifts and distances that are known."""

import math

import pytest
import torch
from torch.nn import functional

from dragnoise_core.background import FAR, FAR_FACTOR, change_threshold, far_share
from dragnoise_core.dense_supervision import RIGID_RADIUS, dense_loss, moving_radius, sample_places
from dragnoise_core.grid import GridPoints, cell_centres
from dragnoise_core.motion import carried, is_rigid, moving_share
from dragnoise_core.points import DragPoints
from dragnoise_core.supervision import sample_patches

GRID = (96, 64)
HANDLES = torch.tensor([[20.0, 20.0], [40.0, 22.0], [30.0, 44.0]])


def placed(handles, targets, rigid=False):
    return GridPoints(GRID, handles, targets, rigid, torch.full((len(handles),), torch.nan), torch.zeros(0, 2))


def turned(points, angle, shift=(0.0, 0.0)):
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return points @ turn + torch.tensor(shift)


def test_places_are_the_latent_cells_row_by_row():
    places = cell_centres((16, 24), GRID, torch.device("cpu"))
    assert places.shape == (16 * 24, 2)
    assert places[0].tolist() == [1.5, 1.5] and places[1].tolist() == [5.5, 1.5] and places[24].tolist() == [1.5, 5.5]
    feature = torch.randn(1, 3, 16, 24)
    torch.testing.assert_close(sample_places(feature, places, GRID), feature)


def test_sampling_is_that_of_the_resized_map_at_whole_cells():
    feature = torch.randn(1, 5, 2, 3)
    cells = torch.tensor([[0.0, 0.0], [95.0, 63.0], [37.0, 21.0], [3.0, 60.0], [50.0, 2.0], [90.0, 30.0]])
    wanted = sample_patches(feature, cells, 0, GRID)[:, :, 0, 0]
    torch.testing.assert_close(sample_places(feature, cells, GRID)[0].flatten(1).T, wanted, rtol=1e-4, atol=1e-5)


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


def test_what_moves_comes_from_near_a_handle():
    origins = torch.tensor([[20.0, 20.0], [26.0, 20.0], [80.0, 60.0]])
    share = moving_share(origins, HANDLES, 6.0)
    assert share[0] == 1 and float(share[1]) == pytest.approx(math.exp(-0.5)) and share[2] < 1e-6


def test_around_points_that_move_rigidly_more_moves_whatever_the_radius_says():
    together, apart = turned(HANDLES, 0.2, (9.0, 4.0)), HANDLES + torch.tensor([[9.0, 0.0], [-9.0, 0.0], [0.0, 9.0]])
    assert is_rigid(HANDLES, together) and not is_rigid(HANDLES, apart)
    for radius, alone in ((6, 6), (0, 1)):
        assert (moving_radius(placed(HANDLES, together, rigid=True), radius) == RIGID_RADIUS * 64).all()
        assert (moving_radius(placed(HANDLES, apart), radius) == alone).all()
    # Any two points can be turned into place: they must go the same way. One says nothing.
    shifted = HANDLES + torch.tensor([9.0, -4.0])
    assert is_rigid(HANDLES[:2], shifted[:2]) and not is_rigid(HANDLES[:2], turned(HANDLES, 0.5)[:2])
    assert not is_rigid(HANDLES[:1], shifted[:1])


def test_what_is_far_is_far_from_every_path():
    points = placed(torch.tensor([[20.0, 30.0]]), torch.tensor([[60.0, 30.0]]))
    far = FAR * min(GRID)
    places = torch.tensor([[20.0, 30.0], [40.0, 30.0], [60.0, 30.0], [40.0, 30.0 + far], [20.0 - 2 * far, 30.0]])
    shares = far_share(places, points)
    assert shares[:3].abs().max() < 1e-6
    assert float(shares[3]) == pytest.approx(1 - math.exp(-0.5))
    assert float(shares[4]) == pytest.approx(1 - math.exp(-2.0))


def test_a_change_must_be_larger_far_away_unless_a_mask_or_a_rigid_motion_says_what_moves():
    latent = torch.zeros(1, 4, 16, 64)
    pairs = [((20.0, 64.0), (40.0, 64.0)), ((20.0, 80.0), (60.0, 80.0))]
    for count, factor in ((1, FAR_FACTOR[0]), (2, FAR_FACTOR[1])):
        points = GridPoints.of(DragPoints.from_pairs(pairs[:count], 512, 128), latent, whole=False)
        threshold = change_threshold(0.3, points, latent, None)
        assert threshold.shape == (1, 1, 16, 64)
        assert 0.3 <= float(threshold.min()) < 0.33  # a cell beside the path
        assert float(threshold.max()) == pytest.approx(0.3 * factor, rel=0.01)
        assert change_threshold(0.0, points, latent, None) is None
        assert change_threshold(0.3, points, latent, torch.ones(1, 1, 16, 64)) == 0.3
    rigid = DragPoints.from_pairs([(handle, (handle[0] + 20, handle[1])) for handle, _ in pairs], 512, 128)
    assert change_threshold(0.3, GridPoints.of(rigid, latent, whole=False), latent, None) == 0.3


def small_drag():
    """A smooth map, and the handle of a drag of two of its cells to the right."""
    generator = torch.Generator().manual_seed(0)
    source = functional.interpolate(torch.randn(1, 4, 8, 12, generator=generator), (16, 24), mode="bicubic")
    handles = torch.tensor([[45.5, 29.5]])
    return source, handles, handles + torch.tensor([[8.0, 0.0]])


def loss(feature, source, handles, targets, allowed=None):
    places = cell_centres((16, 24), GRID, torch.device("cpu"))
    allowed = torch.ones(len(places)) if allowed is None else allowed
    return dense_loss(
        feature, handles, handles, targets, places, source, torch.tensor(6.0), allowed, grid=GRID, step_length=64.0
    )


def test_the_loss_vanishes_for_the_moved_map():
    source, handles, targets = small_drag()
    moved = torch.roll(source, 2, -1)
    moved[..., :2] = source[..., :1]
    assert float(loss(moved, source, handles, targets)) < 1e-3 * float(loss(source, source, handles, targets))


def test_descending_the_gradient_moves_the_map():
    """No gradient goes through the sampling of the source: every cell is told what it should be."""
    source, handles, targets = small_drag()
    feature = source.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(feature, source, handles, targets), [feature])
    moved = torch.roll(source, 2, -1)
    here = (slice(None), slice(None), slice(6, 9), slice(12, 15))  # around the target, at cells (13, 7)
    wanted = (source - moved)[here]
    assert ((gradient[here] * wanted).sum(1) > 0).all()


def test_nothing_moves_where_the_mask_forbids_it():
    source, handles, targets = small_drag()
    forbidden = torch.zeros(16 * 24)
    assert loss(source, source, handles, targets, allowed=forbidden) == 0
