"""The drags that the benches measure: seeded, balanced over what makes drags differ, each with its rendered truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..demo.scenes import KINDS, find_kind, keypoints, sample_parameters
from ..demo.scenes.drags import Drag, inside_picture
from ..errors import DragNoiseError

# Length of the longest pair in pixels. Expressions move less than even a small move: see Move.fine.
LENGTHS = {"small": (12.0, 24.0), "large": (24.0, 60.0)}
FINE = (5.0, 12.0)
SHORTEST_PAIR = 3.0  # pixels: a pair that hardly moves asks for nothing
MOTIONS = ("whole", "part", "non-rigid")
MOST_PAIRS = 4
ATTEMPTS = 5000
PATHS = 256  # lengths tried between no change and the whole change
CHANGED = 0.04  # of the range of a pixel: what a person would see and paint over
BRUSH = 10  # pixels that a painted mask goes beyond the change
HOLES = 12  # pixels: holes up to twice as wide are painted over

Parameters = tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """Something to drag: keypoints, each with the parameters that move it.

    The first keypoints are dragged, at least `fewest`; in any order if `free`. fine: even its largest moves are
    shorter than small ones usually are. sizes: those that its parameters' ranges allow.
    """

    motion: str
    handles: dict[str, Parameters]
    fewest: int = 1
    free: bool = False
    fine: bool = False
    sizes: tuple[str, ...] = tuple(LENGTHS)

    def lengths(self, size: str) -> tuple[float, float]:
        """Shortest and longest length of the longest pair, in pixels."""
        return FINE if self.fine else LENGTHS[size]


def _together(parameters: Parameters, *names: str) -> dict[str, Parameters]:
    return dict.fromkeys(names, parameters)


BENCH_MOVES: dict[str, tuple[Move, ...]] = {
    "face": (
        Move("whole", _together(("x", "y"), "nose", "chin", "left_eye", "right_eye")),
        Move("part", _together(("yaw", "pitch"), "nose", "chin", "left_eye", "right_eye")),
        Move(
            "non-rigid",
            {
                "left_mouth_corner": ("smile", "mouth_open"),
                "right_mouth_corner": ("smile", "mouth_open"),
                "chin": ("mouth_open", "size"),
                "mouth": ("mouth_open", "size"),
            },
            fewest=2,
            fine=True,
            sizes=("small",),
        ),
        Move(
            "non-rigid",
            _together(
                ("yaw", "pitch", "smile", "mouth_open"), "left_mouth_corner", "right_mouth_corner", "nose", "chin"
            ),
            fewest=2,
            sizes=("large",),
        ),
    ),
    "mountain": (
        Move(
            "whole",
            {"sun": ("sun_x", "sun_y"), "tree_top": ("tree_x",), "peak": ("peak_x",), "second_peak": ("second_x",)},
            free=True,
        ),
        Move("part", {"peak": ("peak_x", "peak_y"), "second_peak": ("second_x", "second_y")}, free=True),
        Move(
            "non-rigid",
            {"peak": ("peak_y",), "tree_top": ("tree_height",), "second_peak": ("second_y",)},
            free=True,
        ),
        Move(
            "non-rigid",
            {"peak": ("peak_y",), "tree_top": ("tree_height",), "second_peak": ("second_y",), "sun": ("sun_x",)},
            fewest=4,
        ),
    ),
    "cat": (
        Move("whole", _together(("x", "y"), "nose", "left_ear_tip", "right_ear_tip", "chin")),
        Move("part", _together(("yaw", "pitch"), "nose", "chin", "left_eye", "right_eye")),
        Move("part", _together(("tilt",), "left_ear_tip", "right_ear_tip", "chin"), fewest=2),
        Move(
            "non-rigid",
            {
                "left_ear_tip": ("ear_droop",),
                "right_ear_tip": ("ear_droop",),
                "chin": ("mouth_open",),
                "nose": ("pitch",),
            },
        ),
    ),
    "boat": (
        Move("whole", _together(("heel",), "mast_top", "bow", "stern", "boom_end")),
        Move("whole", _together(("x", "waterline"), "bow", "stern", "mast_top", "boom_end")),
        Move("part", {"boom_end": ("sail_width",)}, sizes=("small",)),
        Move("part", {"mast_top": ("mast_height",), "boom_end": ("sail_width",)}, fewest=2),
        Move(
            "non-rigid",
            {
                "mast_top": ("mast_height",),
                "bow": ("hull_length",),
                "stern": ("hull_length",),
                "boom_end": ("sail_width",),
            },
        ),
    ),
}


@dataclass(frozen=True)
class BenchDrag:
    """One drag of the set and what it is an example of. Pictures and points are the drag's, see `drags`."""

    index: int
    drag: Drag
    size: str
    motion: str
    masked: bool

    @property
    def pairs(self) -> int:
        """Number of point pairs."""
        return len(self.drag.names)

    def mask(self) -> Tensor | None:
        """What a user would paint, [256, 256] of 0 and 1 = may change; None for a drag without a mask."""
        if not self.masked:
            return None
        # Nobody paints around the holes that the difference has where a surface is smooth.
        return 1 - dilated(1 - dilated(self.changed(CHANGED), BRUSH + HOLES), HOLES)

    def changed(self, threshold: float) -> Tensor:
        """Where source and truth differ by more than `threshold` in a channel, [256, 256] of 0 and 1."""
        difference = self.drag.truth_picture() - self.drag.source_picture()
        return (difference.abs().amax((0, 1)) > threshold).float()


def dilated(region: Tensor, radius: int) -> Tensor:
    """Grow a region, [H, W] of 0 and 1, by `radius` pixels to every side."""
    return functional.max_pool2d(region[None, None], 2 * radius + 1, 1, radius)[0, 0]


def bench_drags(seed: int = 0, count: int = 96) -> list[BenchDrag]:
    """The first `count` drags of a seed's endless set; none depends on the others.

    96 in a row hold every combination of kind, number of pairs (1 to 4) and size three times, with different motions
    as far as the scenes have them, half of them masked; in the next 96 the others are masked.
    """
    return [bench_drag(seed, index) for index in range(count)]


def bench_drag(seed: int, index: int) -> BenchDrag:
    """Drag number `index` of that seed's set."""
    kind, pairs, size, motion, masked = design(index)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    moves = [move for move in fitting_moves(kind, pairs, size) if move.motion == motion]
    for _ in range(ATTEMPTS):
        move = moves[int(torch.randint(len(moves), (), generator=generator))]
        drag = _draw(kind, move, pairs, move.lengths(size), generator)
        if drag is not None:
            return BenchDrag(index, drag, size, motion, masked)
    raise DragNoiseError(f"no {size} {motion} {kind} drag of {pairs} pairs was found for seed {seed}; try another one.")


def design(index: int) -> tuple[str, int, str, str, bool]:
    """What drag number `index` has to be, for any seed: kind, pairs, size, motion, masked."""
    # Diagonals instead of nested loops: even the first few drags differ in everything.
    block, kind = divmod(index, len(KINDS))
    half, row = divmod(block, MOST_PAIRS)
    turn, tall = divmod(half, len(LENGTHS))
    repeat, turn = divmod(turn, len(MOTIONS))
    pairs = (row + kind) % MOST_PAIRS
    large = (tall + row // 2 + kind) % len(LENGTHS)
    name, size = list(KINDS)[kind], list(LENGTHS)[large]
    fitting = {move.motion for move in fitting_moves(name, pairs + 1, size)}
    motions = [motion for motion in MOTIONS if motion in fitting]
    motion = motions[(turn + pairs + large) % len(motions)]
    masked = (kind // 2 + pairs + large + turn + repeat) % 2 == 1
    return name, pairs + 1, size, motion, masked


def fitting_moves(kind: str, pairs: int, size: str) -> list[Move]:
    """The moves of a kind with so many pairs, of that size."""
    find_kind(kind)
    return [move for move in BENCH_MOVES[kind] if move.fewest <= pairs <= len(move.handles) and size in move.sizes]


def _draw(kind: str, move: Move, pairs: int, lengths: tuple[float, float], generator: torch.Generator) -> Drag | None:
    """Try once: a random scene, changed towards another one until the longest pair has a random length.

    None when this scene does not allow it.
    """
    names = list(move.handles)
    if move.free:
        names = [names[place] for place in torch.randperm(len(names), generator=generator)]
    names = tuple(names[:pairs])
    parameters = {parameter for name in names for parameter in move.handles[name]}
    source, other = sample_parameters(kind, 1, generator), sample_parameters(kind, 1, generator)
    low, high = lengths
    draw = torch.rand((), generator=generator)
    share = torch.linspace(0, 1, PATHS + 1)
    between = {
        name: value + share * (other[name] - value) if name in parameters else value.expand(PATHS + 1)
        for name, value in source.items()
    }
    places = keypoints(kind, between)
    moved = torch.stack([(places[name] - places[name][0]).norm(dim=1) for name in names], 1)
    longest, shortest = moved.amax(1), moved.amin(1)
    wanted = low + draw * (min(high, longest.max().item()) - low)
    fits = ((longest >= max(wanted, low)) & (longest <= high) & (shortest >= SHORTEST_PAIR)).nonzero()
    if not len(fits):
        return None
    drag = Drag(kind, source, {name: value[fits[0]] for name, value in between.items()}, names)
    return drag if inside_picture(drag) and not _hidden(drag) else None


def _hidden(drag: Drag) -> bool:
    """Whether the tree of a landscape stands before the second peak."""
    if drag.kind != "mountain":
        return False
    return any(abs(scene["tree_x"] - scene["second_x"]).item() < 0.08 for scene in (drag.source, drag.target))
