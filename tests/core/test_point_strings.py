"""The strings that the point picker and DragPoints both read: one file, two readers, the same answers."""

import json
from pathlib import Path

import pytest

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints

STRINGS = json.loads((Path(__file__).parents[1] / "support" / "point_strings.json").read_text())


def cases(kind):
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in STRINGS[kind]])


def parse(case):
    return DragPoints.parse(case["text"], *(case["stage"] or (None, None)))


@cases("valid")
def test_reads_what_the_file_says(case):
    points = parse(case)
    assert [points.width, points.height] == case["size"]
    pairs = [[list(handle), list(target)] for handle, target in zip(points.handles, points.targets, strict=True)]
    assert pairs == case["pairs"]
    assert list(points.reaches) == case.get("reaches", [None] * len(pairs))
    assert [list(pin) for pin in points.pins] == case.get("pins", [])
    assert DragPoints.parse(points.to_json()) == points


@cases("refused")
def test_refuses_in_words(case):
    with pytest.raises(DragNoiseError) as error:
        parse(case)
    assert case["says"] in str(error.value)


@cases("pending")
def test_refuses_a_pair_that_waits_for_its_target(case):
    with pytest.raises(DragNoiseError) as error:
        parse(case)
    assert case["says"] in str(error.value)
