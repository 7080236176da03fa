"""What a person reads under a node, and what programs get."""

import json
from dataclasses import asdict

import pytest
import torch
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.edit import DragEdit
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.host.report import for_a_person, for_programs

HANDLES = [(10.0, 10.0), (40.0, 40.0)]
TARGETS = [(30.0, 10.0), (40.0, 20.0)]


def ended_at(*ends, iterations=3):
    """Return an edit whose points, by the tracking, ended there."""
    bottleneck = torch.zeros(1, 4, 2, 2)
    return DragEdit(
        bottlenecks=bottleneck, originals=bottleneck, corrections=torch.zeros(0, 4, 8, 8), sigmas=torch.tensor([3.0]),
        schedule=torch.tensor([3.0, 1.0]), path=torch.tensor([HANDLES, ends]), losses=torch.zeros(iterations),
        mask=torch.zeros(0, 8, 8),
        points=DragPoints.from_pairs(list(zip(HANDLES, TARGETS, strict=True)), 64, 64), config=preset("paper"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "first", "lines", "advice"),
    [
        (TARGETS, "Every point arrived.", ["moved 20.0 px, 0.0 px left"] * 2, "Something else moved: paint a mask"),
        (
            [(30.0, 10.0), (40.0, 34.0)],
            "1 of 2 points arrived.",
            ["moved 20.0 px, 0.0 px left", "moved 6.0 px, 14.0 px left"],
            "Not far enough? Raise iterations",
        ),
        (
            [(30.0, 10.0), (40.0, 52.0)],
            "1 of 2 points arrived.",
            ["moved 20.0 px, 0.0 px left", "moved 12.0 px, 32.0 px left"],
            "Point 2 followed something else",
        ),
    ],
)
def test_a_person_reads_what_moved_what_is_left_and_what_to_turn(ends, first, lines, advice):
    said = for_a_person(ended_at(*ends)).split("\n")
    assert said[0] == first
    assert said[1:-1] == [f"point {number}: {line}" for number, line in enumerate(lines, 1)]
    assert advice in said[-1]


def test_points_that_had_arrived_are_said_to_change_nothing():
    said = for_a_person(ended_at(*TARGETS, iterations=0))
    assert said.startswith("Nothing to do") and "Raise" not in said


def test_programs_get_all_of_it():
    edit = ended_at((30.0, 10.0), (40.0, 34.0))
    told = json.loads(for_programs(edit))
    assert told["points"][1] == {"start": [40.0, 40.0], "target": [40.0, 20.0], "end": [40.0, 34.0], "distance": 14.0}
    assert (told["width"], told["height"], told["iterations"], told["changed"]) == (64, 64, 3, True)
    assert told["path"] == edit.path.tolist() and told["losses"] == [0.0] * 3
    assert (told["sigmas"], told["schedule"]) == ([3.0], [3.0, 1.0])
    assert told["settings"] == asdict(edit.config)
