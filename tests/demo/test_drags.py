"""Drags with known truth: the target picture is the source scene with only the named change."""

import pytest
import torch

from dragnoise_core.demo.scenes import KINDS, keypoints
from dragnoise_core.demo.scenes.drags import drag_points, example_drags

kinds = pytest.mark.parametrize("kind", KINDS)


def check(drag, shortest, longest):
    handles, targets = (torch.tensor(points) for points in zip(*drag_points(drag), strict=True))
    assert ((handles > 0) & (handles < 256) & (targets > 0) & (targets < 256)).all()
    assert shortest <= (targets - handles).norm(dim=1).max() <= longest
    for scene in (drag.source, drag.target):
        for name, (low, high) in KINDS[drag.kind].parameters.items():
            assert low <= scene[name].item() <= high, name
    before, after = keypoints(drag.kind, drag.source), keypoints(drag.kind, drag.target)
    for row, name in enumerate(drag.names):
        torch.testing.assert_close(handles[row], before[name][0])
        torch.testing.assert_close(targets[row], after[name][0])


@kinds
def test_the_example_is_a_visible_drag_inside_the_picture(kind):
    drag = example_drags()[kind]
    assert drag.kind == kind
    check(drag, 20, 60)
    assert all(0 < x < 256 and 0 < y < 256 for x, y in drag.pins)
    source, truth = drag.source_picture(), drag.truth_picture()
    assert source.shape == truth.shape == (1, 3, 256, 256)
    assert (source - truth).abs().max() > 0.3
    assert torch.equal(source, example_drags()[kind].source_picture())


def test_points_scale_with_the_picture():
    drag = example_drags()["boat"]
    small, large = torch.tensor(drag_points(drag, 128)), torch.tensor(drag_points(drag, 256))
    torch.testing.assert_close(2 * small, large)
