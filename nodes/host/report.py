"""What a drag did: for a person, under the node, and for programs, as JSON."""

import json
import math
from dataclasses import asdict

from ...dragnoise_core.edit import DragEdit

CELL = 2  # picture pixels to a cell, the unit of the settings


def for_a_person(edit: DragEdit, remark: str | None = None) -> str:
    """Return how far each point moved, how far it still is from its target, and what to change if that is not right.

    remark: why the run went without CUDA graphs, if it was to have them.
    """
    points = edit.report()["points"]
    if not edit.iterations:
        said = ["Nothing to do: every point is at its target already, and the picture stays as it was."]
        return "\n".join(said + [_line(number, point) for number, point in enumerate(points, 1)])
    near = [point["distance"] <= CELL * edit.config.stop_distance + 1 for point in points]
    astray = [point["distance"] > math.dist(point["start"], point["target"]) + 1 for point in points]
    lines = ["Every point arrived." if all(near) else f"{sum(near)} of {len(near)} points arrived."]
    lines += [_line(number, point) for number, point in enumerate(points, 1)]
    if edit.diverged:
        lines.append(f"Steps diverged at {edit.diverged} noise level(s) and were taken back: lower learning_rate.")
    if any(astray):
        number = 1 + astray.index(True)
        lines.append(f"Point {number} followed something else: put it on a spot that stands out, or drag less far.")
    elif not all(near):
        lines.append("Not far enough? Raise iterations, then learning_rate, on DragNoise Settings; then strength.")
    else:
        lines.append("Not right? Something else moved: paint a mask. It looks different: lower learning_rate.")
    if remark:
        lines.append(f"It ran without CUDA graphs, slower: {remark}.")
    return "\n".join(lines)


def for_programs(edit: DragEdit) -> str:
    """Return all that is known of a drag as JSON; points and path in pixels of the picture that the model saw."""
    return json.dumps(
        {
            **edit.report(),
            "width": edit.points.width,
            "height": edit.points.height,
            "path": edit.path.tolist(),
            "losses": edit.losses.tolist(),
            "sigmas": edit.sigmas.tolist(),
            "schedule": edit.schedule.tolist(),
            "settings": asdict(edit.config),
        }
    )


def _line(number: int, point: dict) -> str:
    moved = math.dist(point["start"], point["end"])
    return f"point {number}: moved {moved:.1f} px, {point['distance']:.1f} px left"
