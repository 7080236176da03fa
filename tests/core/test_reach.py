"""A mask that leaves room for the whole thing moves the whole thing; any other leaves the guess as it is."""

import pytest
import torch

from dragnoise_core.grid import GridPoints
from dragnoise_core.points import DragPoints
from dragnoise_core.reach import masked_reach
from dragnoise_core.warping import warped_picture

SIDE = 256
THING = slice(96, 152)  # rows and columns of a square thing in front of a plain wall
HANDLE = (124, 124)


@pytest.fixture
def picture():
    """A square of noise before a wall: [1, 3, SIDE, SIDE]."""
    picture = torch.full((1, 3, SIDE, SIDE), 0.2)
    texture = torch.rand(7, 7, generator=torch.Generator().manual_seed(3)).repeat_interleave(8, 0)
    picture[..., THING, THING] = 0.5 + 0.5 * texture.repeat_interleave(8, 1)
    return picture


def encode(picture):
    """Cells of eight pixels a side, as an autoencoder's: [1, 3, 32, 32]."""
    return torch.nn.functional.avg_pool2d(picture, 8)


def mask_of(left, top, right, bottom):
    mask = torch.zeros(SIDE, SIDE)
    mask[top:bottom, left:right] = 1
    return mask


def reach_of(picture, mask, *pairs, reaches=()):
    latent = encode(picture)
    points = GridPoints.of(DragPoints.from_pairs(pairs, SIDE, SIDE, reaches), latent, whole=False)
    small = torch.nn.functional.max_pool2d(mask[None, None], 8)
    return masked_reach(points, latent, small).reaches


def test_a_thing_with_room_in_its_mask_moves_whole(picture):
    pair = HANDLE, (HANDLE[0] + 40, HANDLE[1])
    mask = mask_of(72, 72, 224, 176)
    assert reach_of(picture, mask, pair).item() >= SIDE
    warped = warped_picture(picture, encode(picture), DragPoints.from_pairs([pair], SIDE, SIDE), mask)
    moved = slice(THING.start + 40, THING.stop + 40)
    torch.testing.assert_close(warped[..., THING, moved], picture[..., THING, THING], atol=0.01, rtol=0)


def test_a_body_moves_whole_too_and_points_that_go_apart_do_not(picture):
    mask = mask_of(72, 72, 224, 176)
    body = [((110, 110), (150, 110)), ((140, 110), (180, 110)), ((124, 140), (164, 140))]
    assert bool((reach_of(picture, mask, *body) >= SIDE).all())
    assert bool(reach_of(picture, mask, *body[:2], ((124, 140), (124, 150))).isnan().all())


@pytest.mark.parametrize(
    "mask",
    [mask_of(80, 80, 168, 168), mask_of(104, 104, 144, 144)],
    ids=["around the thing, and no farther", "within the thing"],
)
def test_where_the_thing_would_be_cut_off_the_mask_says_nothing(picture, mask):
    assert reach_of(picture, mask, (HANDLE, (HANDLE[0] + 40, HANDLE[1]))).isnan().all()


def test_a_reach_that_was_given_counts_and_without_a_mask_nothing_is_said(picture):
    pair, latent = (HANDLE, (HANDLE[0] + 40, HANDLE[1])), encode(picture)
    assert reach_of(picture, mask_of(72, 72, 224, 176), pair, reaches=[10.0]).tolist() == [5.0]
    points = GridPoints.of(DragPoints.from_pairs([pair], SIDE, SIDE), latent, whole=False)
    assert masked_reach(points, latent, None) is points
