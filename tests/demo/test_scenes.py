"""The scenes: what the parameters promise is what the pictures show.

The keypoints are checked against the pictures alone: a part is found as the pixels that change when a parameter of
that part (its colour, its height) changes, without asking the code that placed it.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dragnoise_core.demo.scenes import KINDS, keypoints, render, sample_parameters
from dragnoise_core.errors import DragNoiseError

kinds = pytest.mark.parametrize("kind", KINDS)


def middle(kind, **changes):
    """One scene with every parameter in the middle of its range, except the given ones."""
    values = {name: 0.5 * (low + high) for name, (low, high) in KINDS[kind].parameters.items()}
    return {name: torch.tensor([value]) for name, value in {**values, **changes}.items()}


def difference(kind, scene, **changes):
    """Where the picture changes with the given parameters: [256, 256], the largest change of a channel."""
    changed = {**scene, **{name: torch.tensor([value]) for name, value in changes.items()}}
    return (render(kind, scene) - render(kind, changed)).abs().amax(1)[0]


def centroid(weight):
    """Centre of mass of a [H, W] weight in pixels, pixel centres at +0.5."""
    rows, columns = torch.arange(weight.shape[0]) + 0.5, torch.arange(weight.shape[1]) + 0.5
    return torch.stack([(weight.sum(0) * columns).sum(), (weight.sum(1) * rows).sum()]) / weight.sum()


def extreme(mask, direction):
    """Mean place of the mask's pixels that lie furthest in the direction (x, y), within one pixel of the furthest."""
    places = mask.nonzero().flip(1) + 0.5
    reach = places @ torch.tensor(direction)
    return places[reach > reach.max() - 1].mean(0)


def place(kind, scene, name):
    return keypoints(kind, scene)[name][0]


def test_the_four_kinds_in_their_order():
    assert list(KINDS) == ["face", "mountain", "cat", "boat"]
    assert all(4 <= len(kind.keypoint_names) <= 8 for kind in KINDS.values())


@kinds
def test_pictures_are_deterministic_and_in_range(kind):
    scenes = sample_parameters(kind, 6, torch.Generator().manual_seed(4))
    again = sample_parameters(kind, 6, torch.Generator().manual_seed(4))
    pictures = render(kind, scenes)
    assert pictures.shape == (6, 3, 256, 256) and pictures.dtype == torch.float32
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert torch.equal(pictures, render(kind, again))


@kinds
def test_a_batch_draws_each_scene_as_if_alone(kind):
    scenes = sample_parameters(kind, 3, torch.Generator().manual_seed(5))
    alone = {name: value[1:2] for name, value in scenes.items()}
    torch.testing.assert_close(render(kind, scenes, 64)[1:2], render(kind, alone, 64), rtol=0, atol=1e-5)


@kinds
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_sampled_parameters_stay_in_their_ranges(kind, seed):
    for name, values in sample_parameters(kind, 50, torch.Generator().manual_seed(seed)).items():
        low, high = KINDS[kind].parameters[name]
        assert values.shape == (50,) and values.min() >= low and values.max() <= high


@kinds
def test_every_parameter_changes_the_picture(kind):
    scene = middle(kind)
    for name, (low, _) in KINDS[kind].parameters.items():
        assert difference(kind, scene, **{name: low}).max() > 0.02, name


@kinds
def test_small_changes_of_a_parameter_make_small_changes_of_the_picture(kind):
    scene = middle(kind)
    for name, (low, high) in KINDS[kind].parameters.items():
        step = 0.5 * (low + high) + 1e-3 * (high - low)
        assert difference(kind, scene, **{name: step}).mean() < 2e-3, name


@kinds
def test_the_size_of_the_picture_only_changes_its_sharpness(kind):
    scenes = sample_parameters(kind, 4, torch.Generator().manual_seed(6))
    large = torch.nn.functional.avg_pool2d(render(kind, scenes, 256), 2)
    assert (large - render(kind, scenes, 128)).abs().mean() < 0.006


@kinds
def test_keypoints_scale_with_the_picture_and_lie_in_it(kind):
    scenes = sample_parameters(kind, 200, torch.Generator().manual_seed(7))
    small, large = keypoints(kind, scenes, 256), keypoints(kind, scenes, 512)
    assert tuple(small) == KINDS[kind].keypoint_names
    for name, places in small.items():
        assert places.shape == (200, 2)
        torch.testing.assert_close(2 * places, large[name])
        assert (places > 0).all() and (places < 256).all(), name


@pytest.mark.parametrize("kind", ["face", "cat"])
@pytest.mark.parametrize("yaw", [-0.35, 0.0, 0.3])
def test_eyes_are_where_the_colour_of_the_iris_shows(kind, yaw):
    scene = middle(kind, yaw=yaw)
    changed = difference(kind, scene, iris=0.0)
    nose = int(place(kind, scene, "nose")[0])
    for name, half in (("left_eye", slice(0, nose)), ("right_eye", slice(nose, 256))):
        here = torch.zeros_like(changed)
        here[:, half] = changed[:, half]
        assert (centroid(here) - place(kind, scene, name)).norm() < 3, name


def test_mouth_corners_end_what_an_opening_mouth_changes():
    scene = middle("face", mouth_open=0.5, smile=0.25)
    changed = difference("face", scene, mouth_open=0.45) > 0.02
    changed[: int(place("face", scene, "nose")[1]) + 4] = False
    changed[int(place("face", scene, "chin")[1]) - 12 :] = False
    for name, direction in (("left_mouth_corner", [-1.0, 0.0]), ("right_mouth_corner", [1.0, 0.0])):
        assert (extreme(changed, direction) - place("face", scene, name))[0].abs() < 4, name


@pytest.mark.parametrize("pitch", [-0.2, 0.0, 0.2])
def test_the_chin_is_the_lowest_point_of_the_jaw(pitch):
    """Along the column of the chin, the skin darkens at once where the jaw ends and the neck's shadow begins."""
    scene = middle("face", pitch=pitch, hair_length=0.0)
    x, y = place("face", scene, "chin").tolist()
    column = render("face", scene)[0].mean(0)[:, int(x)]
    around = slice(int(y) - 12, int(y) + 13)
    edge = int(column.diff()[around].argmin()) + around.start
    assert abs(edge + 1 - y) < 6


@pytest.mark.parametrize("kind", ["face", "cat"])
def test_a_turning_head_moves_the_nose_most(kind):
    left, right = middle(kind, yaw=-0.3), middle(kind, yaw=0.3)
    moved = {
        name: (place(kind, right, name) - place(kind, left, name))[0].item() for name in KINDS[kind].keypoint_names
    }
    assert moved["nose"] > 25
    assert all(0 < moved[name] < moved["nose"] for name in ("left_eye", "right_eye"))
    if kind == "cat":
        assert all(abs(moved[name]) < 0.5 * moved["nose"] for name in ("left_ear_tip", "right_ear_tip"))


def test_the_side_that_turns_away_gets_narrower():
    turned = middle("face", yaw=0.4)
    nose = place("face", turned, "nose")[0]
    assert place("face", turned, "right_eye")[0] - nose < nose - place("face", turned, "left_eye")[0]


def test_the_cat_tilts_as_one():
    """A tilt turns all keypoints about the head's centre by its angle."""
    upright, tilted = middle("cat", tilt=0.0), middle("cat", tilt=0.25)
    centre = 256 * torch.stack([upright["x"], upright["y"]], 1)[0]
    angle = torch.tensor(0.25)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    for name in KINDS["cat"].keypoint_names:
        expected = turn @ (place("cat", upright, name) - centre) + centre
        torch.testing.assert_close(place("cat", tilted, name), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("droop", [0.0, 0.6])
def test_ear_tips_are_the_highest_points_of_the_cat(droop):
    scene = middle("cat", ear_droop=droop)
    changed = difference("cat", scene, darkness=1.0) > 0.1
    nose = int(place("cat", scene, "nose")[0])
    for name, half, side in (("left_ear_tip", slice(nose, 256), -1.0), ("right_ear_tip", slice(0, nose), 1.0)):
        ear = changed.clone()
        ear[:, half] = False
        assert (extreme(ear, [0.8 * side, -1.0]) - place("cat", scene, name)).norm() < 6, name


def test_the_sun_is_where_its_size_shows():
    scene = middle("mountain", sun_x=0.3, peak_x=0.7)
    # Its rim alone: the halo around it is cut off by the picture's upper edge.
    changed = difference("mountain", scene, sun_size=0.05)
    assert (centroid((changed > 0.5 * changed.max()).float()) - place("mountain", scene, "sun")).norm() < 1


@pytest.mark.parametrize(
    "kind, name, change",
    [
        ("mountain", "peak", {"peak_y": 0.45}),
        ("mountain", "second_peak", {"second_y": 0.64}),
        ("mountain", "tree_top", {"tree_height": 0.14}),
        ("boat", "mast_top", {"mast_height": 0.38}),
    ],
)
def test_tops_are_the_highest_pixels_that_a_lower_top_uncovers(kind, name, change):
    scene = middle(kind, **{"second_x": 0.2, "tree_x": 0.8, "cloud_x": 0.9} if kind == "mountain" else {"heel": 0.1})
    changed = difference(kind, scene, **change) > 0.04
    assert (extreme(changed, [0.0, -1.0]) - place(kind, scene, name)).norm() < 4


@pytest.mark.parametrize("heel", [-0.2, 0.0, 0.2])
def test_bow_and_stern_end_the_hull(heel):
    scene = middle("boat", heel=heel)
    changed = difference("boat", scene, hull=0.0) > 0.1
    for name, direction in (("bow", [1.0, -0.7]), ("stern", [-1.0, -0.7])):
        assert (extreme(changed, direction) - place("boat", scene, name)).norm() < 6, name


def test_the_boom_ends_where_a_wider_sail_begins():
    scene = middle("boat", heel=0.0, sail_fullness=0.0)
    changed = difference("boat", scene, sail_width=0.20) > 0.04
    boom = changed[int(place("boat", scene, "boom_end")[1])].nonzero().flatten()
    assert abs(boom.max() + 0.5 - place("boat", scene, "boom_end")[0]) < 4


def test_unknown_kinds_and_parameters_are_named():
    with pytest.raises(DragNoiseError, match="'dog'.*face, mountain, cat, boat"):
        render("dog", {})
    scene = sample_parameters("cat", 1)
    del scene["yaw"]
    with pytest.raises(DragNoiseError, match="yaw"):
        keypoints("cat", scene)
