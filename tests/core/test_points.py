import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints, parse_drag, parse_pin

PAIRS = [((10.5, 20.0), (30.0, 40.0)), ((1.0, 2.0), (3.0, 4.0))]
coordinates = st.floats(0, 100, width=32)
pairs = st.lists(
    st.tuples(st.tuples(coordinates, coordinates), st.tuples(coordinates, coordinates)), min_size=1, max_size=64
)


reaches = st.none() | st.floats(0.01, 65536)


@given(pairs, st.data())
def test_json_brings_the_same_points_back(value, data):
    around = data.draw(st.just([]) | st.lists(reaches, min_size=len(value), max_size=len(value)))
    pins = data.draw(st.lists(st.tuples(coordinates, coordinates), max_size=64))
    points = DragPoints.from_pairs(value, 100, 100, around, pins)
    assert DragPoints.from_json(points.to_json()) == points
    assert (json.loads(points.to_json())["version"] == 2) == bool(pins or any(around))


def test_a_reach_keeps_its_share_of_the_pictures_area():
    points = DragPoints.from_pairs(PAIRS, 100, 50, (10.0, None), [(50, 25)])
    scaled = points.scaled(400, 50)
    assert scaled.reaches == (20.0, None)
    assert scaled.pins == ((200.0, 25.0),)
    assert points.scaled(65536, 65536).scaled(1, 1).reaches[0] >= 0.01, "a reach is never scaled to nothing"


def test_pairs_follow_an_earlier_drag_with_their_targets_and_stay_inside():
    points = DragPoints.from_pairs(
        [((10, 20), (30, 40)), ((90, 90), (99, 90)), ((5, 5), (6, 6))], 100, 100, (9, None, 3)
    )
    moved = points.following([(15, 18), (104, 80)])
    assert moved.handles == ((15, 18), (100, 80), (5, 5))
    assert moved.targets == ((35, 38), (100, 80), (6, 6))
    assert moved.reaches == points.reaches
    assert moved.following([(15, 18), (104, 80)]) == moved, "what follows stays where it is when nothing changes"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reaches": (5.0,)}, "1 reaches for 2 pairs"),
        ({"reaches": (5.0, 0.0)}, "reach of pair 2 is 0.0; give pixels from 0.01 to 65536, or leave it out"),
        ({"reaches": (float("nan"), None)}, "reach of pair 1 is nan"),
        ({"pins": ((1.0, 2.0), (101.0, 2.0))}, r"pin 2 is \(101, 2\), outside"),
        ({"pins": ((1.0, 2.0),) * 65}, "65 pins; at most 64"),
    ],
)
def test_bad_reaches_and_pins_are_refused_by_name(more, said):
    with pytest.raises(DragNoiseError, match=said):
        DragPoints.from_pairs(PAIRS, 100, 100, **more)


@pytest.mark.parametrize(
    "text",
    [
        "[[10.5,20],[30,40],[1,2],[3,4]]",
        '{"prompt": "a cat", "points": [[10.5,20],[30,40],[1,2],[3,4]]}',
        "[[[10.5,20],[99,99],[30,40]],[[1,2],[3,4]]]",
        '[[{"x":10.5,"y":20},{"x":0,"y":0},{"x":30,"y":40}],[{"x":1,"y":2},{"x":3,"y":4}]]',
    ],
)
def test_foreign_forms_are_read(text):
    assert DragPoints.parse(text, 100, 100) == DragPoints.from_pairs(PAIRS, 100, 100)


def test_a_bare_track_of_two_ends_is_one_pair():
    text = '[{"x":10.5,"y":20},{"x":30,"y":40}]'
    assert DragPoints.parse(text, 100, 100) == DragPoints.from_pairs(PAIRS[:1], 100, 100)


def test_own_form_scales_to_the_picture_asked_for():
    points = DragPoints.parse(DragPoints.from_pairs(PAIRS, 100, 50).to_json(), 200, 200)
    assert (points.width, points.height) == (200, 200)
    assert points.handles[0] == (21.0, 80.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 30000, "JSON"),
        ("[]", "no point pair"),
        ("5", "int"),
        ("null", "NoneType"),
        ('{"version":3,"width":9,"height":9,"pairs":[]}', "version 3"),
        ('{"version":1,"width":9,"height":9,"pairs":[]}', "no point pair"),
        ('{"version":1,"width":9,"height":9,"pairs":{}}', "dict"),
        (
            '{"version":1,"width":9,"height":9,"pairs":[{"handle":[1,1],"target":[2,2]},{"handle":[1,1]}]}',
            "pair 2 has no target",
        ),
        ('{"version":1,"width":9,"height":9,"pairs":[{"handle":[1,1],"target":null}]}', "pair 1 has no target"),
        (
            '{"version":1,"width":9,"height":9,"pairs":[{"handle":[1,1],"target":[2,10]}]}',
            r"target of pair 1 is \(2, 10\)",
        ),
        ('{"version":1,"width":9,"height":9,"pairs":[{"handle":[1,NaN],"target":[2,2]}]}', "handle of pair 1"),
        ('{"version":1,"width":9,"height":9,"pairs":[{"handle":[1,true],"target":[2,2]}]}', "handle of pair 1"),
        ('{"version":1,"width":9,"height":9,"pairs":[{"handle":"ab","target":[2,2]}]}', "handle of pair 1"),
        ('{"version":1,"width":0,"height":9,"pairs":[{"handle":[1,1],"target":[2,2]}]}', "width"),
        ('{"version":1,"width":9.5,"height":9,"pairs":[{"handle":[1,1],"target":[2,2]}]}', "width"),
        ('{"version":1,"width":9,"pairs":[{"handle":[1,1],"target":[2,2]}]}', "size"),
        ('{"version":1,"width":NaN,"height":9,"pairs":[{"handle":[1,1],"target":[2,2]}]}', "width"),
        ('{"version":1,"width":1e999,"height":9,"pairs":[{"handle":[1,1],"target":[2,2]}]}', "width"),
        (f"[[1,1],[{'9' * 400},2]]", "target of pair 1"),
        ("[[1,1],[2,2],[3,3]]", "pair 2 has no target"),
        ("[[[1,1]]]", "pair 1 has no target"),
        ('[{"x":1,"y":1}]', "pair 1 has no target"),
        ("[[1,1],[2,Infinity]]", "target of pair 1"),
        ("[[-1,1],[2,2]]", "handle of pair 1"),
        (json.dumps([[1, 1], [2, 2]] * 65), "65 point pairs"),
        (" " * 70000 + "[]", "64 KiB"),
    ],
)
def test_bad_points_are_refused_by_name(text, said):
    size = () if text.startswith("{") else (9, 9)
    with pytest.raises(DragNoiseError, match=said):
        DragPoints.parse(text, *size)


def test_lists_need_the_pictures_size():
    with pytest.raises(DragNoiseError, match="width and height"):
        DragPoints.parse("[[1,1],[2,2]]")


def test_grid_cells_are_those_whose_centres_are_nearest():
    # A 100 x 60 picture on a grid of half its size: cell (4, 7) covers pixels 8 to 10 and 14 to 16.
    points = DragPoints.from_pairs([((8.1, 14.1), (9.9, 15.9)), ((0, 0), (100, 60))], 100, 60)
    handles, targets = points.on_grid(50, 30)
    assert handles.tolist() == [[4, 7], [0, 0]]
    assert targets.tolist() == [[4, 7], [49, 29]]
    back = points.from_grid(torch.tensor([[4.0, 7.0]]), 50, 30)
    assert back.tolist() == [[9.0, 15.0]]


def test_places_on_the_grid_may_lie_between_cells():
    points = DragPoints.from_pairs([((8.1, 14.1), (9.9, 15.9)), ((0, 0), (100, 60))], 100, 60)
    places = torch.stack(points.on_grid(50, 30, whole=False))
    inside = torch.tensor([points.handles[0], points.targets[0]])
    torch.testing.assert_close(points.from_grid(places, 50, 30)[:, 0], inside)
    assert places[:, 1].tolist() == [[0, 0], [49, 29]]


def test_drags_are_read_from_the_command_lines_form():
    assert parse_drag("10,20:30.5,40") == ((10, 20), (30.5, 40), None)
    assert parse_drag(" 10 , 20 : .5 , 40. @ 12.5 ") == ((10, 20), (0.5, 40), 12.5)
    assert parse_pin("60, 80.5") == (60, 80.5)


@pytest.mark.parametrize(
    "text", ["", "1,2", "1,2:3", "1,2:3,4,5", "a,b:c,d", "1,2:nan,4", "1,2;3,4", "1e9,2:3,4", "1,2:3,4@", "1,2@5:3,4"]
)
def test_other_drags_are_refused(text):
    with pytest.raises(DragNoiseError, match="x,y:x,y"):
        parse_drag(text)


def test_thousands_of_digits_are_refused_at_once():
    """A pattern that can split them in many ways would not come to an end."""
    digits = "9" * 2000
    with pytest.raises(DragNoiseError, match="x,y:x,y"):
        parse_drag(f"{digits},{digits}:{digits},x")


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1:2", "a,b", "1,2@3"])
def test_other_pins_are_refused(text):
    with pytest.raises(DragNoiseError, match='"x,y"'):
        parse_pin(text)
