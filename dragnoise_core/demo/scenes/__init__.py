"""Procedural scenes: pictures drawn from named continuous parameters, with the exact places of named keypoints.

Because the renderer is ours, the picture after an intended change can be drawn as well: change the parameters and
render again. That picture is the ground truth of a drag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import DragNoiseError
from . import boat, cat, face, mountain
from .painting import Canvas

SIZE = 256
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class SceneKind:
    """One kind of scene: its parameters with their ranges, its keypoints, and how both are drawn.

    `paint(canvas, parameters)` and `places(parameters)` take parameters of shape [count, 1, 1, 1] and work in
    fractions of the picture's side; use `render` and `keypoints` of this module from outside.
    """

    name: str
    parameters: dict[str, tuple[float, float]]
    keypoint_names: tuple[str, ...]
    paint: Callable[[Canvas, Parameters], None]
    places: Callable[[Parameters], dict[str, Tensor]]


KINDS: dict[str, SceneKind] = {
    name: SceneKind(name, module.PARAMETERS, module.KEYPOINTS, module.paint, module.keypoints)
    for name, module in (("face", face), ("mountain", mountain), ("cat", cat), ("boat", boat))
}


def sample_parameters(kind: str, count: int, generator: torch.Generator | None = None) -> Parameters:
    """Return `count` scenes drawn uniformly from the kind's parameter ranges, on the generator's device."""
    device = generator.device if generator is not None else "cpu"
    return {
        name: torch.rand(count, generator=generator, device=device) * (high - low) + low
        for name, (low, high) in find_kind(kind).parameters.items()
    }


def render(kind: str, parameters: Parameters, size: int = SIZE) -> Tensor:
    """Return the scenes drawn, [count, 3, size, size] in [0, 1], on the parameters' device."""
    scene, columns = find_kind(kind), as_columns(kind, parameters)
    first = next(iter(columns.values()))
    canvas = Canvas(len(first), size, first.device)
    scene.paint(canvas, columns)
    return canvas.finished()


def keypoints(kind: str, parameters: Parameters, size: int = SIZE) -> dict[str, Tensor]:
    """Return the exact places of the keypoints: name to [count, 2] pixels (x right, y down, pixel centres at +0.5).

    Left and right are those of the picture. A place may lie outside the picture when the parameters put it there.
    """
    return {name: place * size for name, place in find_kind(kind).places(as_columns(kind, parameters)).items()}


def find_kind(kind: str) -> SceneKind:
    """Return the scene kind of that name. Raises DragNoiseError, listing the names, if there is none."""
    if kind not in KINDS:
        raise DragNoiseError(f"there is no scene kind {kind!r}; choose one of {', '.join(KINDS)}.")
    return KINDS[kind]


def as_columns(kind: str, parameters: Parameters) -> Parameters:
    """Return the parameters as float32, [count, 1, 1, 1]. Raises DragNoiseError when some are missing or unknown."""
    expected = find_kind(kind).parameters.keys()
    if parameters.keys() != expected:
        wrong = ", ".join(sorted(parameters.keys() ^ expected))
        raise DragNoiseError(
            f"{wrong} are missing or unknown; the parameters of a {kind} scene are {', '.join(expected)}."
        )
    return {name: value.to(torch.float32).reshape(-1, 1, 1, 1) for name, value in parameters.items()}
