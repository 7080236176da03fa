"""The benches' drags: balanced, seeded, each with a rendered truth in which the keypoints are on their targets."""

from collections import Counter

import pytest
import torch

from dragnoise_core.bench.scene_drags import (
    BENCH_MOVES,
    FINE,
    LENGTHS,
    MOTIONS,
    bench_drag,
    bench_drags,
    design,
    dilated,
    fitting_moves,
)
from dragnoise_core.demo.loader import load_keypoint_regressor
from dragnoise_core.demo.scenes import KINDS, find_kind, keypoints
from dragnoise_core.demo.scenes.drags import drag_points

SET = 96


@pytest.fixture(scope="module")
def drags():
    return bench_drags(0, SET)


def moves_of(drag):
    """How far every keypoint of the scene moves, by name."""
    before, after = keypoints(drag.kind, drag.source), keypoints(drag.kind, drag.target)
    return {name: (after[name] - before[name]).norm().item() for name in before}


def test_the_design_is_balanced(drags):
    quarter, half = SET // 4, SET // 2
    assert Counter(item.drag.kind for item in drags) == dict.fromkeys(KINDS, quarter)
    assert Counter((item.drag.kind, item.pairs, item.size) for item in drags) == {
        (kind, pairs, size): 3 for kind in KINDS for pairs in range(1, 5) for size in LENGTHS
    }
    assert Counter(item.masked for item in drags) == {True: half, False: half}
    for tag in ("size", "pairs"):
        for value, count in Counter(getattr(item, tag) for item in drags).items():
            assert sum(item.masked for item in drags if getattr(item, tag) == value) == count / 2
    motions = Counter(item.motion for item in drags)
    assert set(motions) == set(MOTIONS) and min(motions.values()) >= SET / 5
    for motion, count in motions.items():
        assert abs(sum(item.masked for item in drags if item.motion == motion) / count - 0.5) < 0.1
        assert abs(sum(item.size == "large" for item in drags if item.motion == motion) / count - 0.5) < 0.1
    assert {(item.drag.kind, item.motion) for item in drags} == {(kind, motion) for kind in KINDS for motion in MOTIONS}


def test_the_next_set_turns_the_masks_round():
    assert all(design(i)[:4] == design(i + SET)[:4] and design(i)[4] != design(i + SET)[4] for i in range(SET))


def test_a_drag_depends_on_its_seed_and_number_alone(drags):
    again = bench_drag(0, 17)
    assert drag_points(again.drag) == drag_points(drags[17].drag)
    assert torch.equal(again.drag.source_picture(), drags[17].drag.source_picture())
    other = bench_drags(1, 20)
    assert all(a.drag.source != b.drag.source for a, b in zip(drags, other, strict=False))
    assert drag_points(other[5].drag) != drag_points(drags[6].drag)


def test_lengths_and_changes_are_those_of_the_design(drags):
    for item in drags:
        drag = item.drag
        changed = {name for name in drag.source if not torch.equal(drag.source[name], drag.target[name])}
        fitting = [
            move
            for move in fitting_moves(drag.kind, item.pairs, item.size)
            if move.motion == item.motion
            and set(drag.names) <= move.handles.keys()
            and changed == {parameter for name in drag.names for parameter in move.handles[name]}
        ]
        assert fitting, (item.index, drag.names, changed)
        handles, targets = (torch.tensor(ends) for ends in zip(*drag_points(drag), strict=True))
        lengths = (targets - handles).norm(dim=1)
        low, high = FINE if all(move.fine for move in fitting) else LENGTHS[item.size]
        assert low - 1e-3 <= lengths.max() <= high + 1e-3 and lengths.min() > 2.99
        assert ((handles > 0) & (handles < 256) & (targets > 0) & (targets < 256)).all()
        for scene in (drag.source, drag.target):
            for name, (lowest, highest) in KINDS[drag.kind].parameters.items():
                assert lowest - 1e-5 <= scene[name].item() <= highest + 1e-5


def test_moves_of_a_whole_boat_and_of_a_whole_cat_keep_its_shape(drags):
    """An oracle for the tag: under a rigid motion no two keypoints change their distance."""
    rigid = [item.drag for item in drags if item.motion == "whole" and item.drag.kind != "mountain"]
    assert len(rigid) > 10
    for drag in rigid:
        before, after = (torch.cat(list(keypoints(drag.kind, scene).values())) for scene in (drag.source, drag.target))
        torch.testing.assert_close(torch.cdist(before, before), torch.cdist(after, after), atol=0.01, rtol=0)


def test_the_regressor_finds_the_dragged_keypoints_of_the_truth_on_their_targets(drags):
    regressor = load_keypoint_regressor()
    for item in drags[::6]:
        with torch.no_grad():
            found = regressor.locate(item.drag.truth_picture(), item.drag.kind)
        for name, (_, target) in zip(item.drag.names, drag_points(item.drag), strict=True):
            assert (found[name][0] - torch.tensor(target)).norm() < 3, (item.index, name)


def test_masks_cover_the_change_and_little_else(drags):
    for item in drags[:24]:
        mask = item.mask()
        if not item.masked:
            assert mask is None
            continue
        assert mask.shape == (256, 256) and mask.dtype == torch.float32
        difference = (item.drag.truth_picture() - item.drag.source_picture()).abs().amax((0, 1))
        assert mask[difference > 0.05].all() and 0.005 < mask.mean() < 0.95
        for handle, target in drag_points(item.drag):
            assert mask[int(handle[1]), int(handle[0])] and mask[int(target[1]), int(target[0])]


def test_dilation_grows_a_pixel_to_a_square():
    region = torch.zeros(20, 20)
    region[3, 12] = 1
    grown = dilated(region, 4)
    assert grown.sum() == 8 * 9 and grown[0:8, 8:17].all()


def test_every_kind_offers_what_its_table_says():
    for kind, moves in BENCH_MOVES.items():
        scene = find_kind(kind)
        for move in moves:
            assert set(move.handles) <= set(scene.keypoint_names)
            assert all(set(parameters) <= scene.parameters.keys() for parameters in move.handles.values())
