"""The warp against motions in closed form, and what it is worth on a drag whose truth is rendered."""

import pytest
import torch
from toy_unet import ToyUNet

from dragnoise_core import warping
from dragnoise_core.configuration import preset
from dragnoise_core.descent import bounded
from dragnoise_core.grid import GridPoints, cell_centres
from dragnoise_core.inversion import inversion_path
from dragnoise_core.metrics import psnr
from dragnoise_core.optimisation import drag
from dragnoise_core.points import DragPoints
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas
from dragnoise_core.warping import (
    TRUSTED_ERROR,
    WarpedLook,
    believed,
    came_from,
    moved_share,
    pinned,
    prediction_error,
    warped_picture,
)

SIDE = 256
LATENT = torch.zeros(1, 4, SIDE // 8, SIDE // 8)
SIGMAS = ddim_sigmas(scaled_linear_sigmas(), 20, 0.7).float()


def points(*pairs, reaches=(), pins=(), side=SIDE):
    return DragPoints.from_pairs(pairs, side, side, reaches, pins)


def placed(drag_points):
    return GridPoints.of(drag_points, LATENT, whole=False)


def disc(x, y, radius=20.0):
    """A soft disc on a slope of grey, [1, 3, SIDE, SIDE]."""
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    inside = torch.sigmoid((radius - ((columns - x) ** 2 + (rows - y) ** 2).sqrt()) / 1.5)
    return torch.lerp(rows / SIDE * 0.4 + 0.3, torch.ones(SIDE, SIDE), inside).expand(1, 3, -1, -1)


def test_what_is_at_a_target_was_at_its_handle():
    asked = placed(points(((60, 80), (90, 84)), ((180, 90), (170, 120))))
    torch.testing.assert_close(came_from(asked.targets, asked), asked.handles, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "pairs",
    [
        [((120, 120), (165, 130))],
        [((90, 100), (120, 90)), ((150, 100), (180, 90))],
        [((70, 120), (110, 120)), ((160, 100), (164, 102)), ((200, 140), (200, 140))],
    ],
    ids=["one", "a body", "a long way, a short one and none"],
)
@pytest.mark.parametrize("reach", [None, 12.0, 60.0])
def test_nothing_folds_over_whatever_the_reach(pairs, reach):
    """Along the motion places keep their order: the finite differences of where they come from stay positive."""
    asked = placed(points(*pairs, reaches=[reach] * len(pairs)))
    size = (64, 64)
    origins = came_from(cell_centres(size, asked.grid, LATENT.device), asked).view(*size, 2)
    columns, rows = origins[:, 1:] - origins[:, :-1], origins[1:] - origins[:-1]
    area = columns[:-1, :, 0] * rows[:, :-1, 1] - columns[:-1, :, 1] * rows[:, :-1, 0]
    assert area.min() > 0


def test_a_reach_says_how_far_things_move_along():
    asked = placed(points(((100, 100), (116, 100)), reaches=[40.0]))
    places = asked.targets + torch.tensor([[0.0, 0.0], [0.0, 19.0], [0.0, 200.0]])
    assert moved_share(places, asked).tolist() == pytest.approx([1.0, 1.0, 0.0], abs=1e-6)
    alone = placed(points(((100, 100), (116, 100))))
    assert moved_share(places, alone)[1] < 0.9


def test_every_further_point_of_a_body_says_that_more_of_it_moves():
    def lifted(*handles):
        asked = placed(points(*(((x, y), (x, y - 10)) for x, y in handles)))
        assert asked.rigid
        return float(moved_share(torch.tensor([[64.0, 80.0]]), asked))

    brows, face = [(100, 100), (156, 100)], [(100, 100), (156, 100), (128, 130), (128, 150)]
    assert lifted(*brows) < 0.05 < 0.95 < lifted(*face)


def test_a_pin_stays_and_the_handle_beside_it_still_arrives():
    asked = placed(points(((100, 100), (130, 100)), pins=[(160, 100)]))
    torch.testing.assert_close(came_from(asked.pins, asked), asked.pins)
    torch.testing.assert_close(came_from(asked.targets, asked), asked.handles)
    mask = pinned(None, asked, LATENT)
    assert mask[0, 0, 12, 20] < 0.2 and mask[0, 0, 12, 8] == 1
    assert pinned(None, placed(points(((100, 100), (130, 100)))), LATENT) is None


def test_a_handle_that_is_to_stay_is_a_pin_and_the_others_are_still_a_body():
    """A chin and a lower lip go down, the upper lip stays: the jaw between them opens whole."""
    lip, chin, upper = ((128, 160), (128, 172)), ((128, 190), (128, 202)), ((128, 140), (128, 140))
    with_upper, pinned_upper = placed(points(lip, chin, upper)), placed(points(lip, chin, pins=[(128, 140)]))
    assert with_upper.rigid
    places = cell_centres((32, 32), with_upper.grid, LATENT.device)
    torch.testing.assert_close(moved_share(places, with_upper), moved_share(places, pinned_upper))
    torch.testing.assert_close(came_from(with_upper.targets, with_upper), with_upper.handles, atol=0.05, rtol=0)
    assert moved_share(with_upper.targets[:2].mean(0, keepdim=True), with_upper) > 0.9


def test_a_body_ends_before_what_stays():
    """However large a body may be guessed, half a dozen points of it do not take along what a pin beside them holds."""
    body = [((x, y), (x + 20, y)) for x in (100, 130) for y in (90, 120, 150)]
    free, held = placed(points(*body)), placed(points(*body, pins=[(190, 120)]))
    beyond, near = torch.tensor([[110.0, 60.0]]), held.targets[-1:] + torch.tensor([[6.0, 0.0]])
    assert moved_share(beyond, free) > 0.9 and moved_share(beyond, held) == 0
    assert moved_share(near, held) > 0.9


def test_what_lies_between_the_points_of_a_body_is_part_of_it_unless_they_have_reaches():
    """A mast and a hull heel: the middle of the mast is far from both, and as stiff."""
    boat = [((128, 40), (128, 56)), ((60, 200), (60, 216)), ((196, 200), (196, 216))]
    pins, middle = [(128, 20)], torch.tensor([[63.5, 60.0]])
    assert moved_share(middle, placed(points(*boat, pins=pins))) > 0.99
    assert moved_share(middle, placed(points(*boat, pins=pins, reaches=[20.0] * 3))) < 0.5


def test_the_pictures_edges_stay_and_a_handle_beside_one_still_arrives():
    """Nothing is known of what lies beyond an edge: a shift must not draw it out into streaks."""
    body = points(*(((x, y), (x + 24, y)) for x in (20, 120, 220) for y in (60, 180)))
    asked = placed(body)
    side = asked.grid[0]
    rows = torch.linspace(0, side - 1, 9)
    edges = torch.cat([torch.stack((torch.full_like(rows, x), rows), 1) for x in (-0.5, side - 0.5)])
    torch.testing.assert_close(came_from(edges, asked), edges, atol=1e-3, rtol=0)
    torch.testing.assert_close(came_from(asked.targets, asked), asked.handles, atol=0.05, rtol=0)
    # Along an edge things move as before.
    top = torch.tensor([[side / 2, -0.5]])
    assert (top - came_from(top, asked))[0, 0] > 6


def test_where_every_handle_stays_nothing_moves():
    asked = placed(points(((100, 100), (100, 100)), reaches=[40.0]))
    places = cell_centres((32, 32), asked.grid, LATENT.device)
    assert torch.equal(came_from(places, asked), places)


def test_a_disc_is_drawn_where_the_renderer_draws_it_as_sharp_and_the_rest_stays():
    before, after = disc(90, 120), disc(120, 128)
    warped = warped_picture(before, LATENT, points(((90, 120), (120, 128)), reaches=[24.0]))
    near = torch.zeros(SIDE, SIDE)
    near[100:156, 92:148] = 1
    assert psnr(warped, after, near) > 30 > psnr(before, after, near) + 15
    torch.testing.assert_close(warped[..., 240:, :], before[..., 240:, :])
    edges = [(part * near).diff(dim=-1).abs().sum() for part in (warped, after)]
    assert float(edges[0] / edges[1]) == pytest.approx(1, abs=0.05)


def test_a_mask_holds_the_rest_to_the_pixel():
    mask = torch.zeros(SIDE, SIDE)
    mask[60:180, 40:180] = 1
    before = torch.rand(1, 3, SIDE, SIDE)
    warped = warped_picture(before, LATENT, points(((90, 120), (120, 120))), mask)
    # A cell of the latent may change as much as any of its pixels may.
    held = torch.nn.functional.max_pool2d(mask[None, None], 25, 1, 12)[0, 0] == 0
    torch.testing.assert_close(warped[..., held], before[..., held], atol=1e-4, rtol=0)
    assert (warped - before).abs().max() > 0.1


def test_the_model_is_believed_as_far_as_it_predicts_the_unedited_picture():
    clean = torch.randn(1, 4, 16, 16)
    error = prediction_error(clean + TRUSTED_ERROR * clean.std(), clean)
    torch.testing.assert_close(error, torch.full_like(error, TRUSTED_ERROR))
    torch.testing.assert_close(believed(error), torch.full_like(error, 0.5))
    asked = placed(points(((60, 60), (90, 60))))
    look = WarpedLook.of(asked, torch.randn_like(LATENT), torch.ones_like(LATENT), None)
    denoised = torch.zeros_like(LATENT)
    torch.testing.assert_close(look.on(denoised, look.clean, 1.0), denoised)
    torch.testing.assert_close(look.on(denoised, look.clean + 9, 1.0), look.warped, atol=1e-5, rtol=0)
    torch.testing.assert_close(look.on(denoised, look.clean + 9, 0.25), look.warped / 4, atol=1e-5, rtol=0)


def test_a_drag_of_a_model_that_is_not_believed_ends_at_the_warped_picture(monkeypatch):
    monkeypatch.setattr(warping, "TRUSTED_ERROR", 1e-6)
    latent = torch.randn(1, 4, 16, 16)
    path = inversion_path(ToyUNet(), latent, SIGMAS)
    warped = latent.roll(2, 3)
    asked = points(((50, 60), (66, 60)), side=128)
    config = preset("default", iterations=6, drag_steps=3)
    dragged = drag(ToyUNet(), path.latents[0], SIGMAS, asked, config=config, path=path, warped=warped)
    clean = sample(ToyUNet(), dragged.latent, SIGMAS, edit=dragged.edit, start=dragged.level)
    # Of the noise that the drag began with, the last level's part is left.
    assert (clean - warped).abs().max() < 0.1 < 0.5 < (clean - latent).abs().max()


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_the_difference_to_a_bottleneck_is_shortened_to_the_bound_and_not_turned(bound):
    own, difference = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    rms = lambda part: float(part.square().mean().sqrt())  # noqa: E731
    difference = difference / rms(difference) * rms(own)
    held = bounded(own + difference, own, bound) - own
    assert rms(held) == pytest.approx(min(bound, 1.0) * rms(own), rel=1e-4)
    cosine = (held * difference).sum() / (held.norm() * difference.norm())
    assert float(cosine) == pytest.approx(1, abs=1e-5)
    assert torch.equal(bounded(own + difference, own, 0), own + difference)


def test_no_learning_rate_lets_a_bottleneck_grow_past_its_bound():
    x = torch.randn(1, 4, 16, 16) * SIGMAS[0]
    config = preset("default", iterations=12, drag_steps=4, learning_rate=10.0, stop_distance=0.5)
    edit = drag(ToyUNet(), x, SIGMAS, points(((50, 60), (80, 66)), side=128), config=config).edit
    sizes = [part.square().mean((1, 2, 3)).sqrt() for part in (edit.bottlenecks - edit.originals, edit.originals)]
    # What is carried to the next level was bounded by its own bottleneck there, which is another one.
    assert edit.iterations == 12 and bool((sizes[0] < 1.5 * config.bottleneck_change * sizes[1]).all())
