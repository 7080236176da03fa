"""Handle and target points, reaches and pins: reading, checking, scaling."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .errors import DragNoiseError, quoted

VERSIONS = (1, 2)  # 2 adds reaches and pins
MAX_PAIRS = 64
MAX_PINS = 64
MAX_TEXT_BYTES = 64 * 1024
MAX_SIDE = 65536
LARGEST = 1e9
NORMALISED_FROM = 8  # on a picture of at least so many pixels a side, points that all lie in its first one are shares
MIN_REACH, MAX_REACH = 0.01, float(MAX_SIDE)

Point = tuple[float, float]
_NUMBER = r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*"


@dataclass(frozen=True)
class DragPoints:
    """Pairs of points on a picture of `width` x `height` pixels: what is at handles[i] is to move to targets[i].

    Coordinates are (x, y) in pixels, x right, y down, pixel centres at +0.5. reaches[i]: what lies within so many
    pixels of handles[i] moves with it; None, as for all when no reach is given, leaves that to the method.
    pins: points that stay where they are. Raises DragNoiseError when there is no pair, more than 64 pairs or pins, a
    point that is not a number inside the picture, or a reach that is not a number from 0.01 to 65536.
    """

    width: int
    height: int
    handles: tuple[Point, ...]
    targets: tuple[Point, ...]
    reaches: tuple[float | None, ...] = ()
    pins: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if not _is_number(side) or side != int(side) or not 1 <= side <= MAX_SIDE:
                raise DragNoiseError(f"picture {name} is {quoted(side)}; give whole pixels from 1 to {MAX_SIDE}.")
        if len(self.handles) != len(self.targets):
            raise DragNoiseError(
                f"{len(self.handles)} handles but {len(self.targets)} targets; give every handle its target."
            )
        if not self.handles:
            raise DragNoiseError("no point pair; place at least one handle and its target.")
        if len(self.handles) > MAX_PAIRS:
            raise DragNoiseError(f"{len(self.handles)} point pairs; at most {MAX_PAIRS} are possible.")
        for number, pair in enumerate(zip(self.handles, self.targets, strict=True), 1):
            for role, point in zip(("handle", "target"), pair, strict=True):
                self._check_point(f"{role} of pair {number}", point)
        object.__setattr__(self, "reaches", tuple(self.reaches) or (None,) * len(self.handles))
        if len(self.reaches) != len(self.handles):
            raise DragNoiseError(
                f"{len(self.reaches)} reaches for {len(self.handles)} pairs; give one for each pair, or none at all."
            )
        for number, reach in enumerate(self.reaches, 1):
            if reach is not None and not (_is_number(reach) and MIN_REACH <= reach <= MAX_REACH):
                raise DragNoiseError(
                    f"reach of pair {number} is {quoted(reach)}; "
                    f"give pixels from {MIN_REACH} to {MAX_REACH:g}, or leave it out."
                )
        if len(self.pins) > MAX_PINS:
            raise DragNoiseError(f"{len(self.pins)} pins; at most {MAX_PINS} are possible.")
        for number, pin in enumerate(self.pins, 1):
            self._check_point(f"pin {number}", pin)

    def _check_point(self, name: str, point: Any) -> None:
        if len(point) != 2 or not all(map(_is_number, point)):
            raise DragNoiseError(f"{name} is {quoted(point)}; give two finite numbers, x and y.")
        x, y = point
        if not (0 <= x <= self.width and 0 <= y <= self.height):
            raise DragNoiseError(
                f"{name} is ({x:g}, {y:g}), outside the picture of {self.width} x {self.height}; move it inside."
            )

    def refuse_shares(self) -> None:
        """Raise DragNoiseError when all pairs lie in the first pixel of a picture of some size: shares, not pixels."""
        ends = [value for point in (*self.handles, *self.targets) for value in point]
        if min(self.width, self.height) < NORMALISED_FROM or max(ends) > 1 or all(value in (0, 1) for value in ends):
            return
        raise DragNoiseError(
            f"all points lie between 0 and 1, as shares of the picture do, not pixels of {self.width} x {self.height}; "
            'multiply x by the width and y by the height, or write them with "width": 1 and "height": 1.'
        )

    @classmethod
    def from_pairs(
        cls,
        pairs: Sequence[tuple[Point, Point]],
        width: int,
        height: int,
        reaches: Sequence[float | None] = (),
        pins: Sequence[Point] = (),
    ) -> "DragPoints":
        """Build from ((handle x, handle y), (target x, target y)) pairs, a reach for each pair, or none, and pins."""
        handles, targets = tuple(tuple(h) for h, _ in pairs), tuple(tuple(t) for _, t in pairs)
        return cls(width, height, handles, targets, tuple(reaches), tuple(map(tuple, pins)))

    @classmethod
    def parse(cls, text: str, width: int | None = None, height: int | None = None) -> "DragPoints":
        """Read points from JSON text.

        Accepted: this class's own form (see `to_json`); tracks as KJNodes and track nodes write them, one list of
        {"x", "y"} or [x, y] for each track, whose first point is the handle and whose last is the target; a bare list
        of two {"x", "y"}; DragBench's flat [[x, y], ...], alternating handle and target, bare or under "points".
        width, height: the picture's size. Needed for the forms that carry none; a form that carries its own is scaled
        to them. A byte order mark is passed over. Raises DragNoiseError naming the pair that is wrong, for a bare list
        of more {"x", "y"} (one track or several pairs?), and for points that are shares of the picture, not pixels.
        """
        value = _read_json(text)
        if isinstance(value, dict) and "pairs" in value:
            points = cls._from_own_form(value)
        else:
            if isinstance(value, dict):
                if "points" not in value:
                    raise DragNoiseError(
                        f"the points are {quoted(value)}, with neither pairs nor points in it; give pairs, tracks or "
                        "[x, y] points."
                    )
                value = value["points"]
            pairs = _pairs_of_lists(value)
            if width is None or height is None:
                raise DragNoiseError("the points carry no picture size; give the picture's width and height.")
            points = cls.from_pairs(pairs, width, height)
        points.refuse_shares()
        return points if width is None or height is None else points.scaled(width, height)

    @classmethod
    def from_json(cls, text: str) -> "DragPoints":
        """Read exactly what `to_json` wrote. Raises DragNoiseError for anything else."""
        value = _read_json(text)
        if not isinstance(value, dict) or "pairs" not in value:
            raise DragNoiseError(f"the points are {quoted(value)}; this tool writes version, width, height and pairs.")
        return cls._from_own_form(value)

    @classmethod
    def _from_own_form(cls, value: dict) -> "DragPoints":
        pairs, width, height = _pairs_of_own_form(value), value.get("width"), value.get("height")
        if width is None or height is None:
            raise DragNoiseError("the points carry no picture size; give the picture's width and height.")
        return cls.from_pairs(
            pairs, width, height, [entry.get("reach") for entry in value["pairs"]], _pins(value.get("pins"))
        )

    def to_json(self) -> str:
        """Return the JSON form: {"version", "width", "height", "pairs": [{"handle", "target", "reach"}], "pins"}.

        Without reaches and pins it is version 1, which earlier releases read too; with any of them version 2.
        """
        pairs = [{"handle": list(h), "target": list(t)} for h, t in zip(self.handles, self.targets, strict=True)]
        for pair, reach in zip(pairs, self.reaches, strict=True):
            if reach is not None:
                pair["reach"] = reach
        value = {"version": 1, "width": self.width, "height": self.height, "pairs": pairs}
        if self.pins:
            value["pins"] = [list(pin) for pin in self.pins]
        if self.pins or any(reach is not None for reach in self.reaches):
            value["version"] = 2
        return json.dumps(value)

    def scaled(self, width: int, height: int) -> "DragPoints":
        """Return the same points on the picture resized to `width` x `height`.

        A reach is scaled by the mean of both factors, the geometric one: its circle keeps its share of the area.
        """
        if (width, height) == (self.width, self.height):
            return self
        x, y = width / self.width, height / self.height

        def scale(points: tuple[Point, ...]) -> tuple[Point, ...]:
            return tuple((min(px * x, width), min(py * y, height)) for px, py in points)

        reaches = (
            None if reach is None else min(max(reach * math.sqrt(x * y), MIN_REACH), MAX_REACH)
            for reach in self.reaches
        )
        return DragPoints(width, height, scale(self.handles), scale(self.targets), tuple(reaches), scale(self.pins))

    def following(self, ends: Sequence[Point]) -> "DragPoints":
        """Return the same pairs with handles[i] at ends[i], which is held inside the picture; its target moves along.

        Pairs beyond the last end stay as they are, and so do reaches and pins. Coordinates to a tenth of a pixel.
        """

        def inside(x: float, y: float) -> Point:
            return round(min(max(x, 0.0), self.width), 1), round(min(max(y, 0.0), self.height), 1)

        handles, targets = list(self.handles), list(self.targets)
        for index, end in enumerate(ends[: len(handles)]):
            (hx, hy), (tx, ty) = handles[index], targets[index]
            handles[index] = inside(*end)
            targets[index] = inside(tx + handles[index][0] - hx, ty + handles[index][1] - hy)
        return replace(self, handles=tuple(handles), targets=tuple(targets))

    def on_grid(self, width: int, height: int, *, whole: bool = True) -> tuple[Tensor, Tensor]:
        """Return handles and targets on a `width` x `height` grid over the picture, at the nearest cells if `whole`.

        Each [N, 2], float32, (x, y) indices from 0: a cell's centre is its index, so picture pixels' +0.5 goes away.
        """
        size = torch.tensor([width, height], dtype=torch.float64)
        scale = size / torch.tensor([self.width, self.height], dtype=torch.float64)

        def cells(points: tuple[Point, ...]) -> Tensor:
            index = torch.tensor(points, dtype=torch.float64) * scale - 0.5
            return torch.minimum((index.round() if whole else index).clamp_min(0), size - 1).float()

        return cells(self.handles), cells(self.targets)

    def from_grid(self, cells: Tensor, width: int, height: int) -> Tensor:
        """Return grid indices [..., 2] as picture pixels, (x, y), pixel centres at +0.5: the inverse of `on_grid`."""
        scale = torch.tensor([self.width / width, self.height / height], dtype=cells.dtype, device=cells.device)
        return (cells + 0.5) * scale


def parse_drag(text: str) -> tuple[Point, Point, float | None]:
    """Read a handle, a target and a reach, or None, from "x,y:x,y" or "x,y:x,y@reach", in pixels.

    Raises DragNoiseError when it is not four or five numbers.
    """
    match = re.fullmatch(rf"{_NUMBER},{_NUMBER}:{_NUMBER},{_NUMBER}(?:@{_NUMBER})?", text)
    if not match:
        raise DragNoiseError(
            f'drag {quoted(text)} is neither "x,y:x,y" nor "x,y:x,y@reach"; write the handle, a colon and the target, '
            "as 120,80:150,80, and after an @, if you like, how far around the handle things move with it."
        )
    *ends, reach = match.groups()
    hx, hy, tx, ty = map(float, ends)
    return (hx, hy), (tx, ty), None if reach is None else float(reach)


def parse_pin(text: str) -> Point:
    """Read a point that stays from "x,y". Raises DragNoiseError when it is not two numbers."""
    match = re.fullmatch(rf"{_NUMBER},{_NUMBER}", text)
    if not match:
        raise DragNoiseError(f'pin {quoted(text)} is not "x,y"; write a point that is to stay, as 60,80.')
    x, y = map(float, match.groups())
    return x, y


def _is_number(value: Any) -> bool:
    # The bound also keeps out NaN, infinities and whole numbers too large for a float.
    return _is_numeral(value) and abs(value) <= LARGEST


def _is_numeral(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def decode_points(content: bytes) -> str:
    """Return the text of a points file, in UTF-8, 16 or 32, with a byte order mark or without.

    Raises DragNoiseError when it is over 64 KiB or no such text.
    """
    if len(content) > MAX_TEXT_BYTES:
        raise DragNoiseError(f"the points' file is over {MAX_TEXT_BYTES // 1024} KiB; give a list of points.")
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DragNoiseError(
            f"the points' file cannot be read as text in {encoding} ({error}); save it as UTF-8."
        ) from error


def _read_json(text: str) -> Any:
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise DragNoiseError(f"the points' text is over {MAX_TEXT_BYTES // 1024} KiB; give at most {MAX_PAIRS} pairs.")
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise DragNoiseError(f"the points are not JSON ({error}); place them again or mend the text.") from error


def _pairs_of_own_form(value: dict) -> list:
    version = value.get("version")
    if not _is_number(version) or version not in VERSIONS:
        raise DragNoiseError(
            f"the points have version {quoted(version)}, this reads 1 and 2; place them again or update."
        )
    if not isinstance(value["pairs"], list):
        raise DragNoiseError(f"the points' pairs are {type(value['pairs']).__name__}, not a list; place them again.")
    pairs = []
    for number, entry in enumerate(value["pairs"], 1):
        ends = []
        for role in ("handle", "target"):
            if not isinstance(entry, dict) or entry.get(role) is None:
                raise DragNoiseError(f"pair {number} has no {role}; set it or remove the pair.")
            ends.append(_point(entry[role], f"{role} of pair {number}"))
        pairs.append(tuple(ends))
    return pairs


def _pins(value: Any) -> list[Point]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DragNoiseError(f"the points' pins are {type(value).__name__}, not a list; place them again.")
    return [_point(pin, f"pin {number}") for number, pin in enumerate(value, 1)]


def _pairs_of_lists(value: Any) -> list:
    if not isinstance(value, list):
        raise DragNoiseError(f"the points are {type(value).__name__}, not a list; give pairs, tracks or [x, y] points.")
    if all(isinstance(entry, dict) for entry in value) and value:
        if len(value) > 2:
            raise DragNoiseError(
                f"{len(value)} points in one list may be one track or several pairs; give a track's two ends "
                "alone (KJNodes: points_to_sample 2), or write pairs as [[handle, target], ...]."
            )
        value = [value]
    if all(isinstance(entry, list) and len(entry) == 2 and all(map(_is_numeral, entry)) for entry in value):
        if len(value) % 2:
            raise DragNoiseError(f"pair {len(value) // 2 + 1} has no target; alternate handle and target.")
        value = [value[index : index + 2] for index in range(0, len(value), 2)]
    pairs = []
    for number, track in enumerate(value, 1):
        if not isinstance(track, list):
            raise DragNoiseError(f"pair {number} is {quoted(track)}; give [handle, target] or a track of points.")
        if len(track) < 2:
            raise DragNoiseError(f"pair {number} has no target; a track needs a first and a last point.")
        pairs.append((_point(track[0], f"handle of pair {number}"), _point(track[-1], f"target of pair {number}")))
    return pairs


def _point(value: Any, name: str) -> Point:
    if isinstance(value, dict):
        value = [value.get("x"), value.get("y")]
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        raise DragNoiseError(f"{name} is {quoted(value)}; give two finite numbers, x and y.")
    return float(value[0]), float(value[1])
