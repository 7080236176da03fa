"""Drags with known truth: a scene before and after an intended change, and the points that ask for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import SIZE, keypoints, render, sample_parameters

BORDER = 6.0  # pixels, of 256: a dragged point is at least this far from the picture's edge


@dataclass(frozen=True)
class Drag:
    """One intended change of one scene: parameters ([1] tensors) before and after, and the keypoints to drag.

    pins: what stays, (x, y) in pixels of a picture of SIZE x SIZE. reach: in those pixels, how far around each keypoint
    all moves with it; None where that is to be guessed.
    """

    kind: str
    source: dict[str, Tensor]
    target: dict[str, Tensor]
    names: tuple[str, ...]
    pins: tuple[tuple[float, float], ...] = ()
    reach: float | None = None

    def source_picture(self, size: int = SIZE) -> Tensor:
        """Return the picture to edit, [1, 3, size, size] in [0, 1]."""
        return render(self.kind, self.source, size)

    def truth_picture(self, size: int = SIZE) -> Tensor:
        """Return the picture that the renderer draws for the intended change, [1, 3, size, size] in [0, 1]."""
        return render(self.kind, self.target, size)


def drag_points(drag: Drag, size: int = SIZE) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return pairs ((handle x, y), (target x, y)) in pixels of a size x size picture."""
    before, after = keypoints(drag.kind, drag.source, size), keypoints(drag.kind, drag.target, size)
    return [(tuple(before[name][0].tolist()), tuple(after[name][0].tolist())) for name in drag.names]


def inside_picture(drag: Drag) -> bool:
    """Return whether every dragged point is well inside the picture at both ends."""
    points = torch.tensor(drag_points(drag))
    return bool((points >= BORDER).all() and (points <= SIZE - BORDER).all())


def example_drags() -> dict[str, Drag]:
    """Return one hand-chosen drag per kind: a head turns, a peak moves, a cat looks round, a boat heels over.

    As a person would ask for them: several points where one would not tell what is meant, pins on what stays, and a
    small reach where a head turns and its outline is not to come along.
    """
    return {
        "face": chosen(
            "face",
            21,
            {"x": 0.50, "yaw": -0.30, "pitch": 0.0, "smile": 0.6, "mouth_open": 0.15},
            {"yaw": 0.30, "pitch": 0.0},
            ("nose", "left_eye", "right_eye", "left_mouth_corner", "right_mouth_corner"),
            pins=((130, 45), (75, 118), (185, 118)),
            reach=6,
        ),
        "mountain": chosen(
            "mountain",
            5,
            {"peak_x": 0.38, "peak_y": 0.40, "second_x": 0.78, "tree_x": 0.16},
            {"peak_x": 0.50, "peak_y": 0.28},
            ("peak",),
            pins=((45, 22), (150, 55)),
        ),
        "cat": chosen(
            "cat",
            8,
            {"x": 0.50, "yaw": 0.32, "pitch": 0.05, "tilt": 0.0, "mouth_open": 0.2},
            {"yaw": -0.28, "pitch": 0.05},
            ("nose", "left_eye", "right_eye", "chin"),
            pins=((62, 80), (212, 78), (196, 200)),
            reach=6,
        ),
        "boat": chosen(
            "boat",
            2,
            {"x": 0.50, "heel": -0.10, "sun_x": 0.84},
            {"heel": 0.20},
            ("mast_top", "bow", "stern"),
            pins=((215, 22), (16, 166), (240, 166)),
        ),
    }


def chosen(
    kind: str, seed: int, scene: dict[str, float], change: dict[str, float], names: tuple[str, ...], **more
) -> Drag:
    """Return a seeded scene with some parameters set by hand, and the same scene changed. more: of the Drag."""
    source = sample_parameters(kind, 1, torch.Generator().manual_seed(seed))
    source.update({name: torch.tensor([value]) for name, value in scene.items()})
    target = {**source, **{name: torch.tensor([value]) for name, value in change.items()}}
    return Drag(kind, source, target, names, **more)
