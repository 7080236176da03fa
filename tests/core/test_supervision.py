import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.supervision import latent_mask, mask_loss, motion_loss, sample_patches
from dragnoise_core.tracking import track


def random_map(height, width, channels=5, seed=0):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def resized(feature, grid):
    return functional.interpolate(feature, (grid[1], grid[0]), mode="bilinear")


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(3, 20), st.integers(3, 20)),
    scale=st.sampled_from([1, 2, 4]),
    radius=st.integers(0, 3),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_patches_are_those_of_the_resized_map(size, scale, radius, place):
    width, height = size
    grid = (width * scale, height * scale)
    feature = random_map(height, width)
    x, y = (float(torch.tensor(p * (g - 1), dtype=torch.float32)) for p, g in zip(place, grid, strict=True))
    padded = functional.pad(resized(feature, grid), (8,) * 4, mode="replicate")[0]

    def at(row, column):
        return padded[:, 8 + row, 8 + column]

    x0, y0 = math.floor(x), math.floor(y)
    fx, fy = x - x0, y - y0
    got = sample_patches(feature, torch.tensor([[x, y]], dtype=torch.float64), radius, grid)[0]
    for i in range(-radius, radius + 1):
        for j in range(-radius, radius + 1):
            row, column = y0 + i, x0 + j
            wanted = (1 - fy) * ((1 - fx) * at(row, column) + fx * at(row, column + 1)) + fy * (
                (1 - fx) * at(row + 1, column) + fx * at(row + 1, column + 1)
            )
            torch.testing.assert_close(got[:, i + radius, j + radius], wanted, rtol=1e-9, atol=1e-9)


def test_motion_loss_has_the_gradient_of_finite_differences():
    feature = random_map(9, 11).requires_grad_(True)
    points = torch.tensor([[12.0, 10.0], [30.0, 20.0]], dtype=torch.float64)
    targets = torch.tensor([[25.0, 17.0], [9.0, 28.0]], dtype=torch.float64)
    template = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def loss(value):
        return motion_loss(value, points, targets, radius=1, grid=(44, 36), step_length=2.5, template=template)

    assert torch.autograd.gradcheck(loss, (feature,), eps=1e-7, atol=1e-5)


def test_the_current_template_is_held_constant():
    feature = random_map(8, 8).requires_grad_(True)
    points, targets = torch.tensor([[16.0, 16.0]]).double(), torch.tensor([[26.0, 16.0]]).double()
    loss = motion_loss(feature, points, targets, radius=0, grid=(32, 32), step_length=8.0)
    (gradient,) = torch.autograd.grad(loss, feature)
    # Eight cells ahead is two map entries to the right of the point's own entry.
    assert gradient[0, :, 4, :5].abs().max() == 0
    assert gradient[0, :, 4, 5:].abs().max() > 0


def test_points_that_have_arrived_do_not_count():
    feature = random_map(8, 8)
    points = torch.tensor([[10.0, 10.0], [20.0, 20.0]]).double()
    targets = torch.tensor([[11.9, 10.0], [28.0, 20.0]]).double()
    both = motion_loss(feature, points, targets, radius=1, grid=(32, 32))
    second = motion_loss(feature, points[1:], targets[1:], radius=1, grid=(32, 32))
    assert both == second > 0


@pytest.mark.parametrize("corner", [(0, 0), (31, 0), (0, 31), (31, 31)])
def test_corners_are_ordinary_places(corner):
    feature = random_map(8, 8)
    points, targets = torch.tensor([corner]).double(), torch.tensor([[15.0, 15.0]]).double()
    assert torch.isfinite(motion_loss(feature, points, targets, radius=4, grid=(32, 32), step_length=4.0))
    cells = resized(feature, (32, 32))[0]
    found = track(feature, cells[:, corner[1], corner[0]][None], points, 12, (32, 32))[0].long()
    # The resize repeats the outermost entries, so the neighbour may match just as well.
    torch.testing.assert_close(cells[:, found[1], found[0]], cells[:, corner[1], corner[0]])
    assert (found - points[0]).abs().max() <= 1


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-1, 3)])
def test_tracking_finds_where_the_feature_went(shift):
    feature = random_map(16, 16)
    moved = torch.roll(feature, (shift[1], shift[0]), (2, 3))
    start = torch.tensor([[8.0, 7.0]]).double()
    reference = feature[0, :, 7, 8][None]
    found = track(moved, reference, start, 3, (16, 16))
    assert (found - start)[0].tolist() == list(shift)


def test_what_a_warp_has_put_far_away_is_found_there_and_what_it_has_not_is_not():
    feature, start, target = random_map(32, 32), torch.tensor([[6.0, 8.0]]), torch.tensor([[24.0, 20.0]])
    reference = feature[0, :, 8, 6][None]
    moved = feature.roll((12, 18), (2, 3))
    track_with = partial(track, reference=reference, points=start, radius=3, grid=(32, 32), warped=target)
    assert track_with(moved).tolist() == target.tolist()
    assert track_with(feature, favour=2.0).tolist() == start.tolist()


def test_tracking_stays_inside_the_window_and_the_grid():
    feature = torch.zeros(1, 2, 8, 8).double()
    reference = torch.ones(1, 2).double()
    feature[0, :, 0, 7] = 1  # the match is out of reach
    start = torch.tensor([[1.0, 6.0]]).double()
    for _ in range(4):
        found = track(feature, reference, start, 2, (8, 8))
        assert ((found - start).abs() <= 2).all() and (found >= 0).all() and (found <= 7).all()
        start = found


@pytest.mark.parametrize("place", [(8.3, 6.8), (7.5, 7.0), (15.0, 0.0), (15.2, 3.0)])
def test_tracking_finds_places_between_cells(place):
    # Maps that rise evenly: their L1 distance to a place is the place's own distance along x plus that along y.
    ramp = torch.arange(16).double()
    feature = torch.stack((ramp.expand(16, 16), ramp[:, None].expand(16, 16)))[None]
    reference, start = torch.tensor([place]).double(), torch.tensor([[7.6, 6.1]]).double()
    for _ in range(4):
        start = track(feature, reference, start, 3, (16, 16), whole=False)
    torch.testing.assert_close(start, reference.clamp(0, 15), rtol=0, atol=0.5 if max(place) > 14 else 1e-9)
    assert (start <= 15).all()


def test_mask_loss_counts_only_outside_the_mask_in_variance_preserving_scale():
    change = torch.full((1, 4, 4, 4), -2.0)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    assert float(mask_loss(change, mask, 3.0)) == pytest.approx(4 * 4 * 2 * 2 / 10**0.5)


def test_masks_of_any_size_come_to_the_latents_and_keep_thin_strokes():
    latent = torch.zeros(1, 4, 8, 16)
    mask = torch.zeros(640, 333)
    mask[100, 30] = 1
    small = latent_mask(mask, latent)
    assert small.shape == (1, 1, 8, 16)
    assert small.sum() == 1 and small[0, 0, 1, 1] == 1
    assert latent_mask(torch.ones(1, 3, 5), latent) is None


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.zeros(8, 8), "empty"),
        (torch.ones(2, 8, 8), r"\(2, 8, 8\)"),
        (torch.full((8, 8), 2.0), "0 to 1"),
        (torch.full((8, 8), float("nan")), "0 to 1"),
    ],
)
def test_masks_that_make_no_sense_are_refused(mask, said):
    with pytest.raises(DragNoiseError, match=said):
        latent_mask(mask, torch.zeros(1, 4, 8, 8))
